//! Processes in pods: started, watched and ended. Must not know what they do.

use super::{Pod, inside::SUBCOMMAND};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::process::{Child, Command};

/// How long a process may take to end once it was asked to.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of a log an error shows.
const LAST_LINES: usize = 8;

/// Which CPU a process runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cpu {
    /// That of the proxies.
    Proxies,
    /// That of everything else.
    Load,
    /// Any, before whatever else the machine does.
    Either,
    /// Any.
    Any,
}

impl Cpu {
    /// The number of the CPU: on a machine with one everything shares it.
    fn number(self) -> Option<usize> {
        let last = std::thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1);
        match self {
            Self::Proxies => Some(0),
            Self::Load => Some(last.min(1)),
            Self::Either | Self::Any => None,
        }
    }
}

/// What is to be started.
#[derive(Clone, Debug)]
pub(crate) struct Spawn {
    /// What it is called in logs and errors.
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Its environment, which is nothing but this.
    pub(crate) environment: Vec<(String, String)>,
    /// Its CPU.
    pub(crate) cpu: Cpu,
    /// Its user, if not root.
    pub(crate) uid: Option<u32>,
}

/// A process in a pod. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Option<PathBuf>,
}

impl Spawn {
    /// As root and anywhere, with no environment.
    pub(crate) fn new(name: impl Into<String>, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self { name: name.into(), command, environment: Vec::new(), cpu: Cpu::Any, uid: None }
    }

    /// Starts it in a pod with what it says in a file of `logs`.
    pub(crate) fn logged(self, pod: &Pod, logs: &Path) -> Result<Process> {
        let path = logs.join(format!("{}.log", self.name));
        let file = File::options().create(true).append(true).open(&path)?;
        let mut command = self.command(pod)?;
        command.env_clear().stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        self.start(command, Some(path))
    }

    /// Starts it in a pod, with the terminal of this process, and its environment below its own.
    pub(crate) fn attached(self, pod: &Pod) -> Result<Process> {
        let command = self.command(pod)?;
        self.start(command, None)
    }

    /// Runs it to its end in a pod, and gives what it printed.
    pub(crate) async fn output(self, pod: &Pod) -> Result<String> {
        let mut command = self.command(pod)?;
        command.env_clear().envs(self.environment).stdin(Stdio::null());
        let output = command.output().await.with_context(|| format!("cannot run {}", self.name))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{}: {}: {}", self.name, output.status, said.trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn command(&self, pod: &Pod) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("this program has no name")?);
        command.arg(SUBCOMMAND).kill_on_drop(true);
        command.arg("--net").arg(pod.namespace.net()).arg("--mount").arg(pod.namespace.mount());
        if let Some(cpu) = self.cpu.number() {
            command.arg(format!("--cpu={cpu}"));
        }
        if self.cpu != Cpu::Any {
            // What is measured comes before whatever else the machine does.
            command.arg("--nice=-10");
        }
        if let Some(uid) = self.uid {
            command.arg(format!("--uid={uid}"));
        }
        command.arg("--").args(&self.command);
        Ok(command)
    }

    fn start(self, mut command: Command, log: Option<PathBuf>) -> Result<Process> {
        let child = command.envs(self.environment).spawn().with_context(|| format!("cannot start {}", self.name))?;
        Ok(Process { name: self.name, child, log })
    }
}

impl Process {
    /// Its process id.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }

    /// That it still runs; what it said last, where it does not.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended, {status}{}", self.name, self.last_words()),
        }
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> Result<std::process::ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// Asks it to end, and kills it if it does not.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let Some(pid) = pid else { return Ok(()) };
        kill_process(pid, Signal::TERM)?;
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let text = self.log.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        last.iter().map(|line| format!("\n    {line}")).collect()
    }
}
