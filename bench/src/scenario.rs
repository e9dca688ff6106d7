//! What is measured: each scenario with its load, and the values that are drawn from what the load met. Must not know who
//! is measured, or in which order.

use crate::{
    load::{BulkResult, Held, LoadResult, Protocol},
    measure::Usage,
    peers::{Peer, Programs, Subject, Variation},
    results::{Metric, Values},
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{fmt, time::Duration};

/// Bytes of a bulk transfer.
const BULK: u64 = 1 << 30;
/// Rates of the curve, in exchanges a second.
const RATES: [u32; 6] = [500, 1000, 2000, 4000, 6000, 8000];
/// The share of a rate that must be reached for a latency to mean something.
const KEPT_UP: f64 = 0.95;
/// Connections at which memory is read.
const HELD: [u32; 5] = [0, 64, 250, 500, 1000];
/// How long a proxy may settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// How long after a load.
const AFTER: Duration = Duration::from_secs(10);
/// Rate at which latency is measured.
const RATE: u32 = 1000;

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// As many HTTP/1.1 requests as go, 64 at a time.
    #[value(name = "max-h1")]
    #[serde(rename = "max-h1")]
    MaxHttp1,
    /// HTTP/2 requests, 8 at a time on 8 connections.
    #[value(name = "max-h2")]
    #[serde(rename = "max-h2")]
    MaxHttp2,
    /// gRPC calls, likewise.
    #[value(name = "max-grpc")]
    #[serde(rename = "max-grpc")]
    MaxGrpc,
    /// Echoes over TCP, 64 at a time.
    #[value(name = "max-tcp")]
    #[serde(rename = "max-tcp")]
    MaxTcp,
    /// HTTP/1.1 at 1,000 requests a second.
    #[value(name = "lat-h1")]
    #[serde(rename = "lat-h1")]
    LatencyHttp1,
    /// gRPC at 1,000 calls a second.
    #[value(name = "lat-grpc")]
    #[serde(rename = "lat-grpc")]
    LatencyGrpc,
    /// A new TCP connection for each echo, 8 at a time.
    #[value(name = "conn-tcp")]
    #[serde(rename = "conn-tcp")]
    Connections,
    /// One connection with 1 GiB from the server.
    #[value(name = "bulk-down")]
    #[serde(rename = "bulk-down")]
    BulkDown,
    /// One connection with 1 GiB to the server.
    #[value(name = "bulk-up")]
    #[serde(rename = "bulk-up")]
    BulkUp,
    /// HTTP/1.1 at rising rates.
    #[value(name = "rate-h1")]
    #[serde(rename = "rate-h1")]
    RateHttp1,
    /// A fresh proxy: start, idle memory, memory by connections, memory after a load.
    #[value(name = "memory")]
    #[serde(rename = "memory")]
    Memory,
}

impl Scenario {
    /// All of them, in the order in which they run.
    pub(crate) const ALL: [Self; 11] = [
        Self::MaxHttp1,
        Self::MaxHttp2,
        Self::MaxGrpc,
        Self::MaxTcp,
        Self::LatencyHttp1,
        Self::LatencyGrpc,
        Self::Connections,
        Self::BulkDown,
        Self::BulkUp,
        Self::RateHttp1,
        Self::Memory,
    ];

    /// Whether it says something of a peer that is unusual in this: memory nothing where there is no proxy, and a variation
    /// only what it is for.
    pub(crate) fn concerns(self, peer: Peer, variation: Variation) -> bool {
        let says = match variation {
            Variation::Usual => peer != Peer::None || self != Self::Memory,
            Variation::Plaintext => {
                !matches!(self, Self::LatencyHttp1 | Self::LatencyGrpc | Self::RateHttp1 | Self::Memory)
            }
            Variation::Services | Variation::Endpoints => {
                matches!(self, Self::MaxHttp1 | Self::MaxHttp2 | Self::Memory)
            }
            Variation::EitherCpu | Variation::TwoWorkers => matches!(self, Self::MaxHttp1 | Self::MaxTcp),
            Variation::NewSessions | Variation::Resumption => self == Self::Connections,
        };
        says && variation.concerns(peer)
    }

    /// How often it is read in each repetition, and for which share of the seconds that other loads last. The 99th percentile
    /// of one load is that of a few dozen requests, and of the moment, and so are the sizes in which a transfer happens to be
    /// read: the median of several says more than a longer one.
    pub(crate) fn rounds(self) -> (u32, f64) {
        match self {
            Self::LatencyHttp1 | Self::LatencyGrpc => (3, 0.6),
            Self::BulkDown | Self::BulkUp => (3, 1.0),
            _ => (1, 1.0),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.pad(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}

/// Options of a load over connections that many share.
const SHARED: [&str; 2] = ["--connections=8", "--streams=8"];

/// How long loads last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    /// Seconds that count of a load.
    pub(crate) seconds: f64,
}

/// What was read, with the step it was read at.
pub(crate) type Read = (Option<u32>, Values);

/// Measures a peer that runs.
///
/// # Errors
///
/// The load failed as a whole.
pub(crate) async fn measure(scenario: Scenario, subject: &Subject, length: Length) -> Result<Vec<Read>> {
    let length = Length { seconds: length.seconds * scenario.rounds().1 };
    let load = async |protocol, options: &[&str]| run_load(subject, protocol, options, length).await;
    let one = |values| vec![(None, values)];
    Ok(match scenario {
        Scenario::MaxHttp1 => one(load(Protocol::Http1, &["--connections=64"]).await?),
        Scenario::MaxHttp2 => one(load(Protocol::Http2, &SHARED).await?),
        Scenario::MaxGrpc => one(load(Protocol::Grpc, &SHARED).await?),
        Scenario::MaxTcp => one(load(Protocol::Tcp, &["--connections=64"]).await?),
        Scenario::LatencyHttp1 => one(load(Protocol::Http1, &["--connections=16", &rate(RATE)]).await?),
        Scenario::LatencyGrpc => one(load(Protocol::Grpc, &["--connections=4", "--streams=4", &rate(RATE)]).await?),
        Scenario::Connections => {
            let before = subject.sessions()?;
            let mut values = load(Protocol::Tcp, &["--connections=8", "--reconnect", "--size=64"]).await?;
            if let (Some(before), Some(after)) = (before, subject.sessions()?) {
                values.insert(Metric::Resumed, after.resumed_since(before));
            }
            one(values)
        }
        Scenario::BulkDown => one(bulk(subject, "down").await?),
        Scenario::BulkUp => one(bulk(subject, "up").await?),
        Scenario::RateHttp1 => curve(subject, length).await?,
        Scenario::Memory => Vec::new(),
    })
}

/// Latency at each rate, each for half as long as other loads last, up to the first that is too much: past that it says how
/// long the load lasted and nothing else.
async fn curve(subject: &Subject, length: Length) -> Result<Vec<Read>> {
    let length = Length { seconds: length.seconds / 2.0 };
    let mut read: Vec<Read> = Vec::new();
    for step in RATES {
        let values = match run_load(subject, Protocol::Http1, &["--connections=16", &rate(step)], length).await {
            Ok(values) => values,
            Err(error) if read.is_empty() => return Err(error),
            Err(_) => break,
        };
        if values.get(&Metric::Rate).is_none_or(|reached| *reached < KEPT_UP * f64::from(step)) {
            break;
        }
        read.push((Some(step), values));
    }
    Ok(read)
}

/// Starts a peer and measures how it starts, and what memory it holds; of one that is unusual no more than when it is idle.
///
/// # Errors
///
/// It does not start, or refuses connections.
pub(crate) async fn measure_fresh(peer: Peer, variation: Variation, programs: &Programs) -> Result<Vec<Read>> {
    let mut subject = Subject::without_client_half(peer, variation, programs).await?;
    let began = subject.start_client_half()?;
    let first = ["first".to_owned(), format!("--to={}", subject.target(Protocol::Http1)), format!("--since={began}")];
    let start: f64 = serde_json::from_str(&subject.client(&first).await?)?;
    subject.client_half_is_ready().await?;
    tokio::time::sleep(SETTLE).await;
    let client_half = *subject.pids()?.first().context("there is no proxy")?;
    let idle = Usage::of(client_half)?;
    let mut read = vec![(
        None,
        Values::from([
            (Metric::Start, start),
            (Metric::Resident, mebibytes(idle.resident)),
            (Metric::Private, mebibytes(idle.private)),
        ]),
    )];
    if variation != Variation::Usual {
        subject.stop().await?;
        return Ok(read);
    }
    for (protocol, metric) in [(Protocol::Http1, Metric::ResidentHttp1), (Protocol::Tcp, Metric::ResidentTcp)] {
        let steps = HELD.map(|connections| connections.to_string()).join(",");
        let held: Vec<Held> =
            run(&subject, "hold", protocol, &["--seconds=1", &format!("--connections={steps}")]).await?;
        read.extend(held.iter().filter_map(|held| {
            let values = Values::from([(metric, mebibytes(held.processes.first()?.resident))]);
            Some((u32::try_from(held.connections).ok(), values))
        }));
    }
    run_load(&subject, Protocol::Http1, &["--connections=64"], Length { seconds: 3.0 }).await?;
    tokio::time::sleep(AFTER).await;
    read[0].1.insert(Metric::ResidentAfter, mebibytes(Usage::of(client_half)?.resident));
    subject.stop().await?;
    Ok(read)
}

fn rate(rate: u32) -> String {
    format!("--rate={rate}")
}

fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

async fn run<T: DeserializeOwned>(subject: &Subject, command: &str, protocol: Protocol, options: &[&str]) -> Result<T> {
    let value = clap::ValueEnum::to_possible_value(&protocol).context("a protocol without a name")?;
    let pids: Vec<_> = subject.pids()?.iter().map(ToString::to_string).collect();
    let mut arguments = vec![command.to_owned(), format!("--to={}", subject.target(protocol))];
    arguments.push(format!("--protocol={}", value.get_name()));
    if !pids.is_empty() {
        arguments.push(format!("--pids={}", pids.join(",")));
    }
    arguments.extend(options.iter().map(ToString::to_string));
    let printed = subject.client(&arguments).await.with_context(|| format!("{} of {}", command, subject.peer))?;
    serde_json::from_str(&printed).with_context(|| format!("{command} printed {printed:?}"))
}

async fn run_load(subject: &Subject, protocol: Protocol, options: &[&str], length: Length) -> Result<Values> {
    let seconds = format!("--seconds={}", length.seconds);
    let result: LoadResult = run(subject, "load", protocol, &[options, &[seconds.as_str()]].concat()).await?;
    ensure!(result.exchanges > 0, "not one exchange succeeded: {}", result.first_error.unwrap_or_default());
    Ok(values(&result))
}

fn values(result: &LoadResult) -> Values {
    let per_exchange = |usage: &Usage| usage.cpu / result.exchanges as f64;
    let mut values = Values::from([
        (Metric::Rate, result.rate),
        (Metric::P50, result.latency.p50),
        (Metric::P99, result.latency.p99),
        (Metric::P999, result.latency.p999),
        (Metric::Errors, result.errors as f64 + result.stuck as f64),
    ]);
    if let [client, server] = result.processes.as_slice() {
        values.insert(Metric::Cpu, per_exchange(client) + per_exchange(server));
        values.insert(Metric::CpuClient, per_exchange(client));
        values.insert(Metric::CpuServer, per_exchange(server));
    }
    values
}

async fn bulk(subject: &Subject, direction: &str) -> Result<Values> {
    let options = [format!("--direction={direction}"), format!("--bytes={BULK}")];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let result: BulkResult = run(subject, "bulk", Protocol::Tcp, &options).await?;
    let mut values = Values::from([(Metric::Megabytes, result.bytes as f64 / 1e6 / result.seconds)]);
    if !result.processes.is_empty() {
        let cpu: f64 = result.processes.iter().map(|usage| usage.cpu / 1e3).sum();
        values.insert(Metric::CpuPerGigabyte, cpu / (result.bytes as f64 / 1e9));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_told_by_exchange_and_of_both_proxies_together() {
        let cpu = |cpu| Usage { cpu, ..Usage::default() };
        let processes = vec![cpu(3000.0), cpu(1000.0)];
        let values = values(&LoadResult { exchanges: 100, errors: 1, stuck: 2, processes, ..LoadResult::default() });
        assert_eq!(
            [Metric::Cpu, Metric::CpuClient, Metric::CpuServer].map(|metric| values[&metric]),
            [40.0, 30.0, 10.0]
        );
        assert_eq!(values[&Metric::Errors], 3.0, "who got no answer has failed too");
    }

    #[test]
    fn without_proxies_there_is_no_cpu_of_them() {
        assert!(!values(&LoadResult { exchanges: 1, ..LoadResult::default() }).contains_key(&Metric::Cpu));
    }
}
