//! Connections that are held open, and how long a first answer takes.

use super::{Client, To};
use crate::measure::{Usage, Window, now};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::task::LocalSet;

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries for a first answer.
const PAUSE: Duration = Duration::from_millis(1);

/// Open connections step by step, one exchange on each, and hold them; prints what processes hold as JSON.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    pub(crate) to: To,
    /// Numbers of connections, ascending, at each of which the processes are looked at.
    #[arg(long, value_delimiter = ',', default_values_t = [1000])]
    pub(crate) connections: Vec<usize>,
    /// Seconds between the last exchange and the look.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
}

/// What processes hold with so many connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Held {
    /// Connections that are open.
    pub(crate) connections: usize,
    /// What each process holds, and what it used since the last look.
    pub(crate) processes: Vec<Usage>,
}

/// Wait for a first answer; prints the milliseconds that it took.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct First {
    #[command(flatten)]
    pub(crate) to: To,
    /// Since when, in nanoseconds on the monotonic clock; from now if not given.
    #[arg(long)]
    pub(crate) since: Option<u64>,
    /// Seconds to wait at most.
    #[arg(long, default_value_t = 20.0)]
    pub(crate) seconds: f64,
}

/// Opens connections and looks at the processes at each number of them.
///
/// # Errors
///
/// A connection could not be opened or got no answer.
pub(crate) async fn run(hold: &Hold) -> Result<Vec<Held>> {
    LocalSet::new().run_until(run_local(hold)).await
}

async fn run_local(hold: &Hold) -> Result<Vec<Held>> {
    let target = hold.to.target();
    let (mut open, mut held) = (Vec::new(), Vec::new());
    for &connections in &hold.connections {
        let window = Window::open(&hold.to.pids)?;
        while open.len() < connections {
            let exchange = async {
                let mut client = Client::connect(&target).await?;
                client.exchange().await?;
                anyhow::Ok(client)
            };
            let opened = tokio::time::timeout(PATIENCE, exchange).await;
            open.push(
                opened
                    .map_err(anyhow::Error::from)
                    .flatten()
                    .with_context(|| format!("connection {} of {connections}", open.len() + 1))?,
            );
        }
        tokio::time::sleep(Duration::from_secs_f64(hold.seconds)).await;
        held.push(Held { connections: open.len(), processes: window.read()? });
    }
    Ok(held)
}

/// Tries until an exchange succeeds, and gives the milliseconds until then.
///
/// # Errors
///
/// None did in time.
pub(crate) async fn first(first: &First) -> Result<f64> {
    let since = first.since.unwrap_or_else(now);
    let target = first.to.target();
    let attempts = async {
        loop {
            let exchange = async { Client::connect(&target).await?.exchange().await };
            if exchange.await.is_ok() {
                return (now() - since) as f64 / 1e6;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let patience = Duration::from_secs_f64(first.seconds);
    let answered = LocalSet::new().run_until(tokio::time::timeout(patience, attempts)).await;
    answered.with_context(|| format!("no answer from {} within {patience:?}", first.to.to))
}
