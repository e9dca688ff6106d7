//! `load`: a constant rate of requests, each counted, with the time that it would have taken its user.
//!
//! Latency is measured from the moment that a request was due, not from the moment that a connection was free for it,
//! so that a stall shows in the quantiles of every request that it held up. It must not retry: a failure is a failure.

mod engine;
mod mix;
mod summary;

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use http::Uri;
use tokio_util::sync::CancellationToken;

use crate::{duration, stop_on_input};
use engine::Plan;
use mix::Mix;

/// The longest that the target's name may take to resolve: Services appear after the pods that call them.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(60);

/// What to send, how fast, for how long.
#[derive(Args)]
pub(crate) struct Settings {
    /// Such as `http://front:8080`; HTTP/1.1.
    #[arg(long)]
    target: Uri,
    /// Requests per second, from 0.1 to 100000.
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    rate: f64,
    /// What to send, in turn: `get` and `post` suit the echo server, `shop` the demo's front.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "get,post")]
    mix: Vec<Mix>,
    /// How long; without end unless it is given.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Requests in flight at most. Those that come due meanwhile wait, and their waiting is counted.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// How many requests of a hundred take a new connection.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    new_connections: u8,
    /// A request that takes longer has failed.
    #[arg(long, value_parser = duration, default_value = "10s")]
    timeout: Duration,
    /// How often a line of the last while is printed; none with `--json`.
    #[arg(long, value_parser = duration, default_value = "5s")]
    every: Duration,
    /// The seed of what is random: the order of the shop's requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End as well when something, or the end, comes on standard input.
    #[arg(long)]
    until_input: bool,
    /// Print only one object at the end.
    #[arg(long)]
    json: bool,
}

/// Runs until the duration is over or `stop`, then prints the summary of the whole run.
///
/// # Errors
/// The target cannot be resolved.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let authority = settings.target.authority().context("the target has no host")?.to_string();
    let host = settings.target.host().context("the target has no host")?.trim_matches(['[', ']']).to_owned();
    let port = settings.target.port_u16().unwrap_or(80);
    let Some(address) = resolve(&host, port, &stop).await? else { return Ok(()) };
    let plan = Plan {
        address,
        authority,
        rate: settings.rate,
        steps: mix::steps(&settings.mix),
        duration: settings.duration,
        connections: settings.connections.into(),
        new_connections: settings.new_connections,
        timeout: settings.timeout,
        seed: settings.seed,
    };
    let (quiet, every) = (settings.json, settings.every);
    if settings.until_input {
        stop_on_input(stop.clone());
    }
    let total = engine::run(plan, stop, move |report| {
        if !quiet && report.since_last >= every {
            println!("{}", report.take());
        }
    })
    .await;
    if settings.json {
        println!("{}", serde_json::to_string(&total.to_json())?);
    } else {
        println!("in all: {total}");
    }
    Ok(())
}

/// Resolved once: the name service is not what is measured. `None` when told to stop meanwhile.
async fn resolve(host: &str, port: u16, stop: &CancellationToken) -> anyhow::Result<Option<std::net::SocketAddr>> {
    let started = Instant::now();
    loop {
        let error = match tokio::net::lookup_host((host, port)).await {
            Ok(mut addresses) => match addresses.next() {
                Some(address) => return Ok(Some(address)),
                None => std::io::Error::other("no address"),
            },
            Err(error) => error,
        };
        if started.elapsed() > RESOLVE_PATIENCE {
            return Err(error).with_context(|| format!("cannot resolve {host}"));
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.1..=100_000.0).contains(&rate) => Ok(rate),
        _ => Err(format!("expected requests per second from 0.1 to 100000, not {text:?}")),
    }
}
