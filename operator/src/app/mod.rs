//! Wiring: flags, logging, start, readiness and shutdown. Nothing is decided here.

mod admin;
mod ask;
mod cluster;
mod flags;
mod folders;
mod listen;
mod logging;
mod mesh;
mod tasks;
#[cfg(test)]
mod tests;
mod webhooks;

pub use flags::{Flags, Identity, Injection, LogFormat, PullPolicy, SERVICE, Source};

use crate::index::Index;
use anyhow::Context;
use axum::Router;
use listen::bind;
use rustls::crypto::aws_lc_rs;
use tasks::Tasks;

/// Threads that serve; the operator waits for others most of the time.
const WORKERS: usize = 2;

/// Runs the operator until it is told to stop.
///
/// # Errors
///
/// It could not start, or a part of it ended by itself.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    logging::start(&flags.log_level, flags.log_format)?;
    // The client of the API server takes the process's provider.
    let installed = aws_lc_rs::default_provider().install_default();
    debug_assert!(installed.is_ok(), "nothing else installs a provider");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("conduit-operator")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        if let Some(address) = &flags.ask_ready {
            return ask::ask(address).await;
        }
        match flags.source() {
            Source::Cluster => cluster::run(flags).await,
            Source::Folders { manifests, identity } => folders::run(flags, manifests, identity).await,
        }
    })
}

/// An index that knows what the flags say of the cluster.
fn index(flags: &Flags) -> Index {
    let index = Index::new(&flags.cluster_domain);
    index.set_probe_networks(flags.probe_networks.clone());
    index
}

/// Serves probes and metrics on their port, for as long as the process lives.
async fn serve_admin(tasks: &mut Tasks, flags: &Flags, router: Router) -> anyhow::Result<()> {
    let listener = bind(flags.listen_ip, flags.admin_port, "probes and metrics").await?;
    tasks.spawn_until_closing("the admin server", async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "probes and metrics are not served any more");
        }
    });
    Ok(())
}
