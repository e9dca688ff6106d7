//! A network namespace with a name service of its own. Must not know what runs in it.
//!
//! It lives only as file descriptors of this process and of those that run in it: however this process ends, nothing is
//! left. Names are resolved by a file that is bound over `/etc/hosts` in a mount namespace that goes with it, as a cluster's
//! DNS would: proxies check the operator's certificate against its name, so an address would not do.

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Makes both namespaces, and stays until their handles are taken. `$0` is the file with the names.
const HOLDER: &str =
    "mount --make-rprivate / && mount --bind \"$0\" /etc/hosts && ip link set lo up && echo ready && cat";

/// The namespaces of one pod.
#[derive(Debug)]
pub(crate) struct Namespace {
    net: File,
    mount: File,
}

impl Namespace {
    /// One with nothing but `lo`, which is up, where names mean what the file at `hosts` says.
    pub(crate) fn new(hosts: &Path) -> Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", HOLDER])
            .arg(hosts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare of util-linux")?;
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().context("its output is piped")?).read_line(&mut line)?;
        ensure!(line == "ready\n", "a network namespace could not be made: it needs root, and iproute2");
        let handle = |kind: &str| File::open(format!("/proc/{}/ns/{kind}", holder.id()));
        let namespace = Self { net: handle("net")?, mount: handle("mnt")? };
        drop(holder.stdin.take());
        holder.wait()?;
        Ok(namespace)
    }

    /// The file by which other programs find the network namespace, as long as this process lives.
    pub(crate) fn net(&self) -> PathBuf {
        path(&self.net)
    }

    /// Likewise the mount namespace.
    pub(crate) fn mount(&self) -> PathBuf {
        path(&self.mount)
    }

    /// Runs a function on a thread in the network namespace. Sockets that it opens stay there wherever they are used.
    pub(crate) fn run<T: Send>(&self, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.net.as_fd(), Some(LinkNameSpaceType::Network))?;
                function()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Opens a connection from inside.
    pub(crate) fn connect(&self, to: SocketAddr, patience: Duration) -> Result<TcpStream> {
        self.run(|| Ok(TcpStream::connect_timeout(&to, patience)?))
    }

    /// Runs `ip` inside, with arguments separated by blanks.
    pub(crate) fn ip(&self, arguments: &str) -> Result<()> {
        self.succeed(Command::new("ip").args(arguments.split_whitespace()))
    }

    /// Sets a kernel parameter of the network namespace.
    pub(crate) fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        self.run(|| std::fs::write(&path, value).with_context(|| format!("cannot write {path}")))
    }

    /// Runs a program inside to its end, which must be a good one.
    pub(crate) fn succeed(&self, command: &mut Command) -> Result<()> {
        let output = self.run(|| Ok(command.output()?)).with_context(|| format!("cannot run {command:?}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
        Ok(())
    }
}

fn path(file: &File) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
}
