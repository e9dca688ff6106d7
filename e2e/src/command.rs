//! Running a command in a pod.

use crate::{case::Case, cluster::eventually, manifest::PROGRAM};
use anyhow::{Context, Result, ensure};
use kube::api::{AttachParams, AttachedProcess};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// What a command in a pod left.
#[derive(Debug)]
pub struct Output {
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// `Ok` where it exited with 0, otherwise what Kubernetes says of its end.
    pub end: Result<(), String>,
}

impl Output {
    /// Standard output of a command that succeeded.
    ///
    /// # Errors
    /// How the command ended and what it printed, where it failed.
    pub fn success(self) -> Result<String> {
        if let Err(end) = &self.end {
            anyhow::bail!("{end}\nstdout: {}\nstderr: {}", self.stdout.trim_end(), self.stderr.trim_end());
        }
        Ok(self.stdout)
    }

    /// The last line of standard output, as JSON, whether or not the command succeeded.
    ///
    /// # Errors
    /// What was printed, where that is no JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        let line = self.stdout.trim_end().lines().next_back().unwrap_or_default();
        serde_json::from_str(line)
            .with_context(|| format!("no JSON in its last line; it printed {:?} and {:?}", self.stdout, self.stderr))
    }
}

/// What a command left once it has ended.
///
/// # Errors
/// Where the connection to it broke.
pub async fn finish(mut process: AttachedProcess) -> Result<Output> {
    let status = process.take_status().context("no status channel")?;
    let mut stdout = process.stdout().context("no standard output")?;
    let mut stderr = process.stderr().context("no standard error")?;
    let (mut out, mut err) = (String::new(), String::new());
    let (read_out, read_err, status) =
        tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err), status);
    ensure!(read_out.is_ok() && read_err.is_ok(), "the connection to the pod broke");
    let status = status.context("Kubernetes says nothing of the command's end")?;
    let end = match status.status.as_deref() {
        Some("Success") => Ok(()),
        _ => Err(status.message.unwrap_or_else(|| "it failed".into())),
    };
    Ok(Output { stdout: out, stderr: err, end })
}

impl Case {
    /// Runs a command in the container `app` of a pod.
    ///
    /// # Errors
    /// Where the command cannot be started; a command that fails is an [`Output`].
    pub async fn exec(&self, pod: &str, command: &[&str]) -> Result<Output> {
        let parameters = AttachParams::default().container("app").stdout(true).stderr(true);
        finish(self.pods().exec(pod, command.iter().copied(), &parameters).await?).await
    }

    /// Starts a command in the container `app` of a pod, with a standard input.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub async fn start(&self, pod: &str, command: &[&str]) -> Result<AttachedProcess> {
        let parameters = AttachParams::default().container("app").stdin(true).stdout(true).stderr(true);
        Ok(self.pods().exec(pod, command.iter().copied(), &parameters).await?)
    }

    /// Runs a command in the one pod of `app`, which has to succeed.
    ///
    /// # Errors
    /// How the command ended and what it printed.
    pub async fn exec_ok(&self, app: &str, command: &[&str]) -> Result<String> {
        let pod = self.pod(app).await?;
        let name = pod.metadata.name.as_deref().context("a pod without a name")?;
        let output = self.exec(name, command).await?;
        output.success().with_context(|| format!("`{}` in {name}", command.join(" ")))
    }

    /// Runs `conduit-demo check` in the one pod of `app`, which has to succeed, and gives the detail that it printed.
    ///
    /// # Errors
    /// What the check found.
    pub async fn check(&self, app: &str, check: &str, target: &str) -> Result<serde_json::Value> {
        let pod = self.pod(app).await?.metadata.name.context("a pod without a name")?;
        let output = self.exec(&pod, &[PROGRAM, "check", check, target]).await?;
        let line = output.json()?;
        ensure!(line["ok"] == true, "{check} from {app} to {target}: {}", line["error"].as_str().unwrap_or("no error"));
        Ok(line["detail"].clone())
    }

    /// Waits until `check` succeeds once: the network that a pod without a proxy sees (kube-proxy, DNS) follows an
    /// available Deployment by up to some seconds.
    ///
    /// # Errors
    /// What the check found last, after 20 seconds.
    pub async fn reaches(&self, app: &str, check: &str, target: &str) -> Result<serde_json::Value> {
        let what = format!("{app} reaches {target}");
        eventually(&what, Duration::from_secs(20), || self.check(app, check, target)).await
    }
}
