//! A load at a constant rate, or as fast as answers come.
//!
//! At a constant rate every exchange has a time at which it was to begin, and its latency counts from there: an answer
//! that comes late delays those behind it, and a user would have waited (what would be omitted else is called coordinated
//! omission). The time from when it was really sent is told beside it.
//!
//! Each user of a connection takes its turns at times of its own, so that users do not fire together.

use super::{Client, Target, To};
use crate::measure::{Histogram, Timer, Usage, Window, nanoseconds, now};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{cell::RefCell, rc::Rc, time::Duration};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

/// Between the first connection and the first exchange.
const START: u64 = 20_000_000;
/// How long after the end an answer still counts, in nanoseconds.
const LATE: u64 = 2_000_000_000;
/// How long after the end an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after a failure the next connection is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// Load for some time; prints what it met as JSON.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) to: To,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Exchanges at a time on each, where the protocol can.
    #[arg(long, default_value_t = 1)]
    pub(crate) streams: usize,
    /// Exchanges a second over all; as many as go if not given.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// A connection of its own for each exchange.
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// Seconds that count.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Seconds before them.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warmup: f64,
}

/// What a load met.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LoadResult {
    /// Exchanges that counted.
    pub(crate) exchanges: u64,
    /// Exchanges a second.
    pub(crate) rate: f64,
    /// Exchanges that failed, warm-up included.
    pub(crate) errors: u64,
    /// How the first failed.
    pub(crate) first_error: Option<String>,
    /// Users of connections that never got their last answer.
    pub(crate) stuck: usize,
    /// From when an exchange was to begin.
    pub(crate) latency: Quantiles,
    /// From when it was sent.
    pub(crate) service: Quantiles,
    /// What the processes used meanwhile, in the order in which they were named.
    pub(crate) processes: Vec<Usage>,
}

/// A distribution of durations, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "statisticians' own words")]
pub(crate) struct Quantiles {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl From<&Histogram> for Quantiles {
    fn from(histogram: &Histogram) -> Self {
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|share| histogram.quantile(share) as f64 / 1e3);
        let (mean, max) = (histogram.mean() / 1e3, histogram.largest() as f64 / 1e3);
        Self { mean, p50, p90, p99, p999, max }
    }
}

/// When exchanges are made, on the monotonic clock in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    first: u64,
    /// Between two of one user; none where the next begins when the last has ended.
    step: Option<u64>,
    counts_from: u64,
    ends: u64,
}

struct Met {
    latency: Histogram,
    service: Histogram,
    errors: u64,
    first_error: Option<String>,
}

impl Met {
    fn failed(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| format!("{error:#}"));
    }
}

/// Runs a load to its end.
///
/// # Errors
///
/// No connection could be opened at the start, or a process is not there.
pub(crate) async fn run(load: &Load) -> Result<LoadResult> {
    LocalSet::new().run_until(run_local(load)).await
}

async fn run_local(load: &Load) -> Result<LoadResult> {
    let target = load.to.target();
    let mut users = Vec::new();
    for _ in 0..load.connections {
        let client = Client::connect(&target).await?;
        users.extend((1..load.streams).filter_map(|_| client.share()));
        users.push(client);
    }
    let first = now() + START;
    let counts_from = first + nanoseconds(load.warmup);
    let ends = counts_from + nanoseconds(load.seconds);
    let met = Rc::new(RefCell::new(Met {
        latency: Histogram::new(),
        service: Histogram::new(),
        errors: 0,
        first_error: None,
    }));
    let between = load.rate.map(|rate| 1.0 / rate);
    let step = between.map(|between| nanoseconds(between * users.len() as f64));
    let mut running = Vec::new();
    for (index, client) in users.into_iter().enumerate() {
        let own_start = between.map_or(0, |between| nanoseconds(between * index as f64));
        let schedule = Schedule { first: first + own_start, step, counts_from, ends };
        let user = User { target: target.clone(), reconnect: load.reconnect, schedule, met: met.clone() };
        running.push(spawn_local(user.run(client)));
    }
    let timer = Timer::new()?;
    timer.until(counts_from).await?;
    let window = Window::open(&load.to.pids)?;
    timer.until(ends).await?;
    let processes = window.read()?;
    let stuck = finish(running).await?;
    let met = met.borrow();
    Ok(LoadResult {
        exchanges: met.latency.count(),
        rate: met.latency.count() as f64 / load.seconds,
        errors: met.errors,
        first_error: met.first_error.clone(),
        stuck,
        latency: (&met.latency).into(),
        service: (&met.service).into(),
        processes,
    })
}

/// Waits for the last answers, and counts those that do not come: a connection that hangs must show in the result.
async fn finish(running: Vec<JoinHandle<Result<()>>>) -> Result<usize> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut stuck = 0;
    for user in running {
        match tokio::time::timeout_at(deadline, user).await {
            Ok(ended) => ended.context("a user of a connection panicked")??,
            Err(_) => stuck += 1,
        }
    }
    Ok(stuck)
}

struct User {
    target: Target,
    reconnect: bool,
    schedule: Schedule,
    met: Rc<RefCell<Met>>,
}

impl User {
    async fn run(self, mut client: Client) -> Result<()> {
        let timer = Timer::new()?;
        let Schedule { first, step, counts_from, ends } = self.schedule;
        let mut intended = first;
        timer.until(intended).await?;
        loop {
            if step.is_some() {
                timer.until(intended).await?;
            }
            let sent = now();
            let from = if step.is_some() { intended } else { sent };
            if from >= ends {
                return Ok(());
            }
            let result = self.exchange(&mut client).await;
            let answered = now();
            match result {
                Ok(()) if from >= counts_from && answered <= ends + LATE => {
                    let mut met = self.met.borrow_mut();
                    met.latency.record(answered - from);
                    met.service.record(answered - sent);
                }
                Ok(()) => {}
                Err(error) => {
                    self.met.borrow_mut().failed(&error);
                    tokio::time::sleep(PAUSE).await;
                    if let Ok(another) = Client::connect(&self.target).await {
                        client = another;
                    }
                }
            }
            intended += step.unwrap_or_default();
        }
    }

    async fn exchange(&self, client: &mut Client) -> Result<()> {
        if self.reconnect {
            return Client::connect(&self.target).await?.exchange().await;
        }
        client.exchange().await
    }
}
