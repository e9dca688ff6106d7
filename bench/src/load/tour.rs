//! One exchange with each of many addresses. Must not care what is at them.

use super::{Client, To};
use anyhow::{Context, Result};
use std::{net::SocketAddr, time::Duration};
use tokio::task::LocalSet;

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Make one exchange with each of many addresses, one after another; prints how many.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Tour {
    #[command(flatten)]
    pub(crate) to: To,
    /// Where to go besides.
    #[arg(long, value_delimiter = ',', value_name = "IP:PORT")]
    pub(crate) and: Vec<SocketAddr>,
}

/// Goes to each of them.
///
/// # Errors
///
/// One did not answer.
pub(crate) async fn run(tour: &Tour) -> Result<usize> {
    LocalSet::new().run_until(run_local(tour)).await
}

async fn run_local(tour: &Tour) -> Result<usize> {
    let mut target = tour.to.target();
    let mut visited = 0;
    for address in std::iter::once(target.address).chain(tour.and.iter().copied()) {
        target.address = address;
        let exchange = async { Client::connect(&target).await?.exchange().await };
        let exchanged = tokio::time::timeout(PATIENCE, exchange).await;
        exchanged.map_err(anyhow::Error::from).flatten().with_context(|| format!("no answer from {address}"))?;
        visited += 1;
    }
    Ok(visited)
}
