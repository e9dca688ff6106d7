//! `conduit-bench`: pods without a cluster, load, peers, and what comes of measuring them.
//!
//! It knows none of our crates: it starts binaries, as a user would. See docs/performance.md for what it found, and
//! `conduit-bench help` for what it can do.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod load;
mod matrix;
mod measure;
mod mesh;
mod peers;
mod report;
mod results;
mod scenario;
mod soak;
mod topology;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;
use std::{path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use topology::{Inside, Process, Spawn};

/// What ends with its first process: whatever a shell has started is gone when the shell is.
const IN_A_PID_NAMESPACE: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

#[derive(Debug, Parser)]
#[command(name = "conduit-bench", version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command in the client's pod of a mesh of two pods or more, and take all down when it ends.
    ///
    /// Variables CONDUIT_BENCH_* tell the command of the Service (name and address) and of each pod: address, process id
    /// of the proxy, address of the admin server, file of the network namespace for `nsenter --net=`.
    Mesh(MeshFlags),
    Run(matrix::Matrix),
    /// Print the tables of a run, and write the page about it.
    Report {
        /// What `run` has written.
        #[arg(long, value_name = "FILE", default_value = "bench/results/latest.json")]
        from: PathBuf,
        /// The folder of the documentation, where performance.md and its plots go.
        #[arg(long, value_name = "DIR")]
        docs: Option<PathBuf>,
    },
    Soak(soak::Soak),
    Load(load::Load),
    Abort(load::Abort),
    Hold(load::Hold),
    Bulk(load::Bulk),
    First(load::First),
    Tour(load::Tour),
    Origin(load::origin::Origin),
    Relay(peers::floor::Relay),
    #[command(hide = true)]
    Inside(Inside),
}

#[derive(Debug, clap::Args)]
struct MeshFlags {
    #[command(flatten)]
    parts: mesh::Parts,
    /// What runs in each server's pod, by sh; it must listen at every port that the Service leads to.
    #[arg(long, value_name = "COMMAND")]
    serve: Option<String>,
    /// What runs in the client's pod.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    match run(Flags::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("conduit-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Inside(inside) => match topology::enter_and_run(&inside)? {},
        Command::Run(flags) => on_one_thread(until_stopped(run_matrix(flags))),
        Command::Report { from, docs } => {
            let results: results::Results =
                serde_json::from_slice(&std::fs::read(&from).with_context(|| from.display().to_string())?)?;
            println!("{}", report::text(&results));
            if let Some(docs) = docs {
                report::write(&results, &docs)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Soak(flags) => on_one_thread(until_stopped(async {
            soak::run(&flags).await?;
            Ok(ExitCode::SUCCESS)
        })),
        Command::Abort(flags) => on_one_thread(printed(load::run_abort(&flags))),
        Command::Load(flags) => on_one_thread(printed(load::run_load(&flags))),
        Command::Hold(flags) => on_one_thread(printed(load::run_hold(&flags))),
        Command::Bulk(flags) => on_one_thread(printed(load::run_bulk(&flags))),
        Command::First(flags) => on_one_thread(printed(load::first(&flags))),
        Command::Tour(flags) => on_one_thread(printed(load::run_tour(&flags))),
        Command::Origin(flags) => on_one_thread(load::origin::serve(&flags)).map(|()| ExitCode::SUCCESS),
        Command::Relay(flags) => on_one_thread(peers::floor::relay(&flags)).map(|()| ExitCode::SUCCESS),
        Command::Mesh(flags) => on_one_thread(until_stopped(run_in_mesh(flags))),
    }
}

/// Processes end with the thread that started them: it is always the first.
fn on_one_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn printed(work: impl Future<Output = Result<impl Serialize>>) -> Result<ExitCode> {
    println!("{}", serde_json::to_string(&work.await?)?);
    Ok(ExitCode::SUCCESS)
}

/// Ends the work when this process is asked to end, so that what it made is taken down in order.
async fn until_stopped(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        result = work => result,
        _ = terminate.recv() => Ok(ExitCode::from(143)),
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
    }
}

async fn run_matrix(flags: matrix::Matrix) -> Result<ExitCode> {
    println!("\n{}", report::text(&matrix::run(&flags).await?));
    Ok(ExitCode::SUCCESS)
}

async fn run_in_mesh(flags: MeshFlags) -> Result<ExitCode> {
    let mesh = mesh::Mesh::start(&flags.parts).await?;
    let mut serving: Vec<Process> = Vec::new();
    for pod in mesh.network.pods.iter().skip(1) {
        if let Some(command) = &flags.serve {
            let mut spawn = Spawn::new(
                format!("application-{}", pod.name),
                IN_A_PID_NAMESPACE.into_iter().chain(["sh", "-c", command]),
            );
            spawn.environment.push(("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()));
            serving.push(spawn.logged(pod, &mesh.folder().join("logs"))?);
        }
    }
    mesh.servers_listen(&mut serving).await?;
    let client = &mesh.network.pods[0];
    let mut spawn = Spawn::new("the command", flags.command);
    spawn.environment = mesh.environment()?;
    let status = spawn.attached(client)?.ended().await?;
    mesh.stop().await?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// The file of this program, for processes that do another part of the work.
fn this_program() -> Result<String> {
    Ok(std::env::current_exe().context("this program has no name")?.display().to_string())
}
