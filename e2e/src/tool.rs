//! What stands around a cluster: helm, kubectl, and the network outside of it, through `hack/cluster`.
//!
//! The cluster's name comes from `CLUSTER`, which `hack/e2e.sh` sets as it sets `KUBECONFIG`.

use anyhow::{Context, Result, ensure};
use std::{env, process::Stdio};
use tokio::process::{Child, Command};

const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/cluster");
/// Helm's chart of Conduit.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../helm/conduit");

/// The address of the outside: TEST-NET-1 of RFC 5737, so that nothing can leave the machine.
pub const OUTSIDE: &str = "192.0.2.1";

/// `hack/cluster`, ready to be run; it ends when it is dropped.
///
/// # Errors
/// Where nobody says which cluster.
pub(crate) fn command(arguments: &[&str]) -> Result<Command> {
    ensure!(env::var_os("CLUSTER").is_some(), "CLUSTER must name the cluster: run the cases by `make e2e`");
    let mut command = Command::new(TOOL);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Runs `hack/cluster` to its end and gives what it printed.
///
/// # Errors
/// What it printed, where it failed.
pub async fn run(arguments: &[&str]) -> Result<String> {
    let output = command(arguments)?.output().await.with_context(|| format!("{TOOL} cannot be run"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "`{}`: {}\n{stdout}\n{stderr}", arguments.join(" "), output.status);
    Ok(stdout)
}

/// Runs `conduit` (whose path is in `CONDUIT`) and gives what it printed.
///
/// # Errors
/// What it printed, where it failed.
pub async fn conduit(arguments: &[&str]) -> Result<String> {
    let program = env::var("CONDUIT").context("CONDUIT must be the path of conduit: run `make e2e`")?;
    let output = Command::new(&program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "`conduit {}`: {}\n{stdout}\n{stderr}", arguments.join(" "), output.status);
    Ok(stdout)
}

/// Runs helm on the cluster.
///
/// # Errors
/// What it printed, where it failed.
pub async fn helm(arguments: &[&str]) -> Result<String> {
    run(&[&["helm", "--"], arguments].concat()).await
}

/// Runs kubectl on the cluster.
///
/// # Errors
/// What it printed, where it failed.
pub async fn kubectl(arguments: &[&str]) -> Result<String> {
    run(&[&["kubectl", "--"], arguments].concat()).await
}

/// A server outside the cluster, until it is dropped.
#[derive(Debug)]
pub struct Outside {
    _server: Child,
}

impl Outside {
    /// Starts `conduit-demo` (whose path is in `CONDUIT_DEMO`) with these arguments in the network outside the cluster.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let program =
            env::var("CONDUIT_DEMO").context("CONDUIT_DEMO must be the path of conduit-demo: run `make e2e`")?;
        let server = command(&[&["outside", "--", &program], arguments].concat())?
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("a server outside")?;
        Ok(Self { _server: server })
    }
}
