//! How this program becomes another one inside a namespace: it enters, takes the CPU, the priority and the user that the
//! other shall have, and executes it. Must not know what it executes.
//!
//! It is this program that does it, as a child of itself, because all of that concerns a process as a whole, and because
//! each tool that did a part of it would add its own start to the time that a proxy takes to start.

use anyhow::{Context, Result};
use rustix::{
    process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setpriority_process, setrlimit, setsid},
    thread::{
        CpuSet, Gid, LinkNameSpaceType, Uid, move_into_link_name_space, sched_setaffinity, set_thread_gid,
        set_thread_groups, set_thread_uid,
    },
};
use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
};

/// Name of the subcommand.
pub(crate) const SUBCOMMAND: &str = "inside";
/// Descriptors that a process may have: for thousands of connections and their other halves.
const DESCRIPTORS: u64 = 20_000;
/// Where a session's priority is written; not there where the kernel does not group by session.
const SESSION_PRIORITY: &str = "/proc/self/autogroup";

/// Run a program in a pod; for the tool's own use.
#[derive(Debug, clap::Args)]
pub(crate) struct Inside {
    /// File of the network namespace.
    #[arg(long)]
    pub(crate) net: PathBuf,
    /// File of the mount namespace.
    #[arg(long)]
    pub(crate) mount: PathBuf,
    /// The CPU to run on.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// The user to run as.
    #[arg(long)]
    pub(crate) uid: Option<u32>,
    /// The priority, as of `nice`.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) nice: Option<i32>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

/// Becomes the program. Returns only if that fails.
///
/// # Errors
///
/// A namespace cannot be entered, the user not be changed, or the program not be executed.
pub(crate) fn enter_and_run(inside: &Inside) -> Result<std::convert::Infallible> {
    let open = |path: &PathBuf| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let (net, mount) = (open(&inside.net)?, open(&inside.mount)?);
    move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network)).context("cannot enter the network")?;
    let folder = std::env::current_dir()?;
    // The working folder is lost with this.
    move_into_link_name_space(mount.as_fd(), Some(LinkNameSpaceType::Mount)).context("cannot enter the mounts")?;
    if let Some(cpu) = inside.cpu {
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(None, &cpus).with_context(|| format!("cannot run on CPU {cpu}"))?;
    }
    if let Some(nice) = inside.nice {
        prefer(nice)?;
    }
    let descriptors = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    setrlimit(Resource::Nofile, descriptors).context("cannot raise the number of descriptors")?;
    if let Some(uid) = inside.uid {
        set_thread_groups(&[]).context("cannot leave the groups")?;
        set_thread_gid(Gid::from_raw(uid)).context("cannot change the group")?;
        set_thread_uid(Uid::from_raw(uid)).context("cannot change the user")?;
    }
    // After the change of user, which takes it back. However the parent ends, what it started ends with it.
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot be bound to the parent")?;
    let (program, arguments) = inside.command.split_first().context("a program is required")?;
    let mut command = Command::new(program);
    if inside.uid.is_none() {
        command.current_dir(folder);
    }
    Err(command.args(arguments).exec()).with_context(|| format!("cannot execute {program}"))
}

/// Takes a priority. Where the kernel groups processes by session, that of a process counts within its session alone, and the
/// session's among others: so it gets one of its own, with the same priority.
fn prefer(nice: i32) -> Result<()> {
    setsid().context("cannot begin a session")?;
    setpriority_process(None, nice).context("cannot change the priority")?;
    match fs::write(SESSION_PRIORITY, nice.to_string()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context("cannot change the session's priority")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
