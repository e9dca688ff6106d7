//! `conduit-demo`: the demo shop, and the servers, checks and load that the cases run beside it, in one static binary.
//!
//! This file reads the command line and hands over; it must not know what a server answers or what a check proves.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod attack;
mod capture;
mod check;
mod echo;
mod load;
mod serve;
mod shop;
mod tls;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
#[command(version, about = "Conduit's demo application, and the servers and clients that its tests use")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The shop's web front: HTTP/1.1, calls everything else.
    Front(shop::front::Settings),
    /// The shop's goods: gRPC.
    Catalog(shop::catalog::Settings),
    /// What else a customer may like: HTTP/2 without TLS.
    Recommend(shop::recommend::Settings),
    /// A constant rate of requests; every failure is counted with its kind.
    Load(load::Settings),
    /// A server of every protocol that the mesh carries.
    EchoServer(echo::Settings),
    /// One check of one protocol: a line of JSON, and exit code 0 or 1.
    Check(check::Settings),
    /// One attempt on the mesh, by a peer that knows how it works: a line of JSON that says what came of it.
    Attack(attack::Settings),
    /// What a listener on the wire sees of the traffic between two addresses, as a line of JSON.
    Capture(capture::Settings),
    /// Waits, then exits as told: the body of a Job, or of a preStop hook.
    Sleep {
        /// How long, such as `5s`.
        #[arg(value_parser = duration)]
        time: Duration,
        /// The exit code after that time. SIGTERM ends it early, with 0.
        #[arg(long, default_value_t = 0)]
        code: u8,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("conduit-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let stop = stop_signal()?;
    match command {
        Command::Front(settings) => shop::front::run(settings, stop).await?,
        Command::Catalog(settings) => shop::catalog::run(settings, stop).await?,
        Command::Recommend(settings) => shop::recommend::run(settings, stop).await?,
        Command::Load(settings) => load::run(settings, stop).await?,
        Command::EchoServer(settings) => echo::run(settings, stop).await?,
        Command::Check(settings) => return check::run(settings).await,
        Command::Attack(settings) => attack::run(settings, stop).await?,
        Command::Capture(settings) => capture::run(settings, stop).await?,
        Command::Sleep { time, code } => {
            tokio::select! {
                () = tokio::time::sleep(time) => return Ok(ExitCode::from(code)),
                () = stop.cancelled() => {}
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Cancelled at the first SIGTERM or SIGINT. The handlers are installed here because a process that is PID 1 of its
/// container has no default ones.
fn stop_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}

/// Cancels `stop` when something, or the end, comes on standard input. On a thread of its own, which nothing waits for: a read of standard input cannot be taken back.
fn stop_on_input(stop: CancellationToken) {
    std::thread::spawn(move || {
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        stop.cancel();
    });
}

/// Reads a duration such as `200ms`, `5s` or `1m30s`.
///
/// # Errors
/// Text that is no duration, or one below zero.
fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a duration such as 200ms, 5s or 1m30s, not {text:?}");
    let signed: jiff::SignedDuration = text.parse().map_err(|_| expected())?;
    Duration::try_from(signed).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("5").is_err());
        assert!(duration("-5s").is_err());
    }
}
