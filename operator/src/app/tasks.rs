//! The parts of the process: each has a name, hears when to stop, and is waited for. None of them may end by itself.
//!
//! # Stopping
//!
//! SIGTERM arrives while the API server and proxies still send new connections here, for the operator's address leaves
//! EndpointSlices and kube-proxy's rules only after it. So the operator says that it is not ready and serves on for a
//! while; then it stops taking anything new and finishes what it has begun, within [`DRAIN`].

use anyhow::{Context, bail};
use std::time::Duration;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// How long what has begun may take to finish.
const DRAIN: Duration = Duration::from_secs(10);

/// The running parts.
pub(super) struct Tasks {
    running: JoinSet<&'static str>,
    closing: CancellationToken,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self { running: JoinSet::new(), closing: CancellationToken::new() }
    }

    /// Is cancelled when it is time to stop taking anything new.
    pub(super) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Starts a part that hears of [`Self::closing`] itself.
    pub(super) fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(async move {
            part.await;
            name
        });
    }

    /// Starts a part that is just left off when it is time to stop.
    pub(super) fn spawn_until_closing(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing();
        self.spawn(name, async move {
            closing.run_until_cancelled(part).await;
        });
    }

    /// Waits until the process is told to stop, calls `draining`, serves on for `linger`, and stops every part.
    ///
    /// # Errors
    ///
    /// A part ended by itself, or did not stop in time.
    pub(super) async fn run(mut self, linger: Duration, draining: impl FnOnce()) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        tokio::select! {
            _ = terminate.recv() => {
                tracing::info!("told to stop; serving on while others learn of it");
                draining();
                tokio::time::sleep(linger).await;
            }
            // Somebody at a terminal waits for it.
            _ = interrupt.recv() => draining(),
            ended = self.running.join_next() => self.ended(ended)?,
        }
        self.closing.cancel();
        match tokio::time::timeout(DRAIN, self.drain()).await {
            Ok(drained) => drained,
            Err(_) => {
                tracing::warn!(seconds = DRAIN.as_secs(), "stopping with work unfinished");
                Ok(())
            }
        }
    }

    fn ended(&self, ended: Option<Result<&'static str, tokio::task::JoinError>>) -> anyhow::Result<()> {
        match ended {
            Some(Ok(name)) => bail!("{name} ended by itself"),
            Some(Err(error)) => Err(error).context("a part of the operator failed"),
            None => bail!("there is nothing to run"),
        }
    }

    async fn drain(&mut self) -> anyhow::Result<()> {
        while let Some(ended) = self.running.join_next().await {
            tracing::debug!(part = ended.context("a part of the operator failed while it stopped")?, "stopped");
        }
        tracing::info!("stopped");
        Ok(())
    }
}
