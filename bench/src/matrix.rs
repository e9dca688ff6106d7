//! The run: every scenario with every peer, peers in turns, so that what else the machine does falls on all of them. Must not
//! know what is measured.

use crate::{
    peers::{Peer, Programs, Subject, Variation},
    results::{Machine, Metric, Reading, Results},
    scenario::{Length, Read, Scenario, measure, measure_fresh},
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Between two measurements.
const PAUSE: Duration = Duration::from_millis(300);

/// Measure Conduit beside its peers, and print the table.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Matrix {
    #[command(flatten)]
    pub(crate) programs: Programs,
    /// Scenarios, all if not given.
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO")]
    pub(crate) scenario: Vec<Scenario>,
    /// Who is measured, all if not given.
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    pub(crate) peers: Vec<Peer>,
    /// In what peers are unusual; also, or only, in nothing.
    #[arg(long, value_delimiter = ',', value_name = "VARIATION", default_values = ["usual"])]
    pub(crate) variations: Vec<Variation>,
    /// With every variation: what more workers, Services and endpoints, TLS, and new and resumed sessions cost.
    #[arg(long)]
    pub(crate) scaling: bool,
    /// How often.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) repetitions: u32,
    /// Seconds that count of each load.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// How Conduit's binaries were built, for those who read the results.
    #[arg(long, value_name = "PROFILE", default_value = "release")]
    pub(crate) build: String,
    /// Where what was measured is written, as JSON.
    #[arg(long, value_name = "FILE", default_value = "bench/results/latest.json")]
    pub(crate) output: PathBuf,
}

/// Runs all of it. What was measured until then is kept whenever a measurement ends.
///
/// # Errors
///
/// A peer does not start. A measurement that fails is reported, and has no values.
pub(crate) async fn run(matrix: &Matrix) -> Result<Results> {
    let peers = or_all(&matrix.peers, &[Peer::None, Peer::Floor, Peer::Haproxy, Peer::Envoy, Peer::Conduit]);
    let scenarios = or_all(&matrix.scenario, &Scenario::ALL);
    let variations = if matrix.scaling { Variation::ALL.to_vec() } else { matrix.variations.clone() };
    let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let versions = peers.iter().filter_map(|peer| Some((*peer, matrix.programs.version(*peer)?))).collect();
    let results = Results { began, build: matrix.build.clone(), machine: machine(), versions, readings: Vec::new() };
    let mut run = Run { matrix, results, done: 0, all: 0, started: Instant::now() };
    let all = readings(&scenarios, &peers, &variations);
    let rounds = all.iter().map(|reading| reading.0.rounds().0).sum::<u32>();
    run.all = (rounds * matrix.repetitions) as usize;

    let (fresh, running): (Vec<_>, Vec<_>) = all.into_iter().partition(|reading| reading.0 == Scenario::Memory);
    let mut subjects = Vec::new();
    for &(_, peer, variation) in &running {
        if subjects.iter().any(|subject: &Subject| (subject.peer, subject.variation) == (peer, variation)) {
            continue;
        }
        eprintln!("starting {}", name(peer, variation));
        let subject = Subject::start(peer, variation, &matrix.programs).await;
        subjects.push(subject.with_context(|| format!("cannot start {}", name(peer, variation)))?);
    }
    for repetition in 1..=matrix.repetitions {
        for &scenario in scenarios.iter().filter(|scenario| **scenario != Scenario::Memory) {
            let (rounds, _) = scenario.rounds();
            for round in (repetition - 1) * rounds + 1..=repetition * rounds {
                let concerned = |subject: &&Subject| scenario.concerns(subject.peer, subject.variation);
                for subject in turns(&subjects, round).filter(concerned) {
                    let read = measure(scenario, subject, Length { seconds: matrix.seconds }).await;
                    run.keep(scenario, (subject.peer, subject.variation), round, read)?;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    for subject in subjects {
        subject.stop().await?;
    }
    for repetition in 1..=matrix.repetitions {
        for &(scenario, peer, variation) in &fresh {
            let read = measure_fresh(peer, variation, &matrix.programs).await;
            run.keep(scenario, (peer, variation), repetition, read)?;
        }
    }
    Ok(run.results)
}

fn or_all<T: Copy>(chosen: &[T], all: &[T]) -> Vec<T> {
    if chosen.is_empty() { all.to_vec() } else { chosen.to_vec() }
}

/// What is read in each repetition.
fn readings(scenarios: &[Scenario], peers: &[Peer], variations: &[Variation]) -> Vec<(Scenario, Peer, Variation)> {
    let subjects = || variations.iter().flat_map(|variation| peers.iter().map(|peer| (*peer, *variation)));
    let each = scenarios.iter().flat_map(|scenario| subjects().map(|(peer, variation)| (*scenario, peer, variation)));
    each.filter(|(scenario, peer, variation)| scenario.concerns(*peer, *variation)).collect()
}

/// A peer, and in what it is unusual.
fn name(peer: Peer, variation: Variation) -> String {
    if variation == Variation::Usual { peer.to_string() } else { format!("{peer}, {variation}") }
}

/// All in turn, each repetition beginning with another: none is always the first after a pause, or behind the same one.
fn turns<T>(all: &[T], repetition: u32) -> impl Iterator<Item = &T> {
    let first = (repetition as usize - 1) % all.len().max(1);
    all[first..].iter().chain(&all[..first])
}

struct Run<'a> {
    matrix: &'a Matrix,
    results: Results,
    done: usize,
    all: usize,
    started: Instant,
}

impl Run<'_> {
    /// Keeps what was read, shows it, and writes all that there is.
    fn keep(
        &mut self,
        scenario: Scenario,
        (peer, variation): (Peer, Variation),
        repetition: u32,
        read: Result<Vec<Read>>,
    ) -> Result<()> {
        self.done += 1;
        let Self { done, all, .. } = self;
        let seconds = self.started.elapsed().as_secs();
        let told = match &read {
            Ok(read) => read.iter().map(tell).collect::<Vec<_>>().join(" | "),
            Err(error) => format!("failed: {error:#}"),
        };
        let name = name(peer, variation);
        eprintln!("[{done:>3}/{all}, {seconds:>4} s] {scenario:<10} {name:<9} {told}");
        let busy = busy();
        let readings = read.unwrap_or_default().into_iter();
        self.results.readings.extend(readings.map(|(at, values)| Reading {
            scenario,
            peer,
            variation,
            repetition,
            at,
            busy,
            values,
        }));
        let output = &self.matrix.output;
        if let Some(folder) = output.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(output, serde_json::to_vec_pretty(&self.results)?)
            .with_context(|| format!("cannot write {}", output.display()))
    }
}

/// A reading in a few words.
fn tell((at, values): &Read) -> String {
    const TOLD: [(Metric, &str, usize); 13] = [
        (Metric::Rate, "/s", 0),
        (Metric::Cpu, " µs CPU", 1),
        (Metric::P50, " µs p50", 0),
        (Metric::P99, " µs p99", 0),
        (Metric::Megabytes, " MB/s", 0),
        (Metric::CpuPerGigabyte, " ms CPU/GB", 0),
        (Metric::Start, " ms to start", 0),
        (Metric::Resident, " MiB idle", 1),
        (Metric::Private, " MiB private", 1),
        (Metric::ResidentAfter, " MiB after", 1),
        (Metric::ResidentHttp1, " MiB h1", 1),
        (Metric::ResidentTcp, " MiB tcp", 1),
        (Metric::Resumed, " % resumed", 0),
    ];
    let mut words: Vec<String> = at.iter().map(|at| format!("{at}:")).collect();
    words.extend(
        TOLD.iter()
            .filter_map(|(metric, unit, digits)| values.get(metric).map(|value| format!("{value:.digits$}{unit}"))),
    );
    words.extend(values.get(&Metric::Errors).filter(|errors| **errors > 0.0).map(|errors| format!("{errors} ERRORS")));
    words.join(" ")
}

fn machine() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    Machine {
        processor: model.map(|(_, name)| name.to_owned()).unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
    }
}

/// Processes that wanted a CPU over the last minute.
fn busy() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repetition_begins_with_another_and_has_all() {
        let order = |repetition| turns(&[1, 2, 3], repetition).copied().collect::<Vec<_>>();
        assert_eq!([order(1), order(2), order(3), order(4)], [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]);
    }

    #[test]
    fn without_a_proxy_there_is_no_memory_to_read() {
        let (scenarios, usual) = ([Scenario::MaxTcp, Scenario::Memory], Variation::Usual);
        let measured = readings(&scenarios, &[Peer::None, Peer::Floor], &[usual]);
        let [tcp, memory] = scenarios;
        assert_eq!(measured, [(tcp, Peer::None, usual), (tcp, Peer::Floor, usual), (memory, Peer::Floor, usual)]);
    }

    #[test]
    fn a_variation_is_read_of_those_that_can_have_it_and_in_what_it_is_for() {
        let variations = [Variation::TwoWorkers, Variation::Resumption];
        let peers = [Peer::Haproxy, Peer::Envoy, Peer::Conduit];
        let measured = readings(&[Scenario::MaxHttp1, Scenario::Connections], &peers, &variations);
        assert_eq!(
            measured,
            [
                (Scenario::MaxHttp1, Peer::Conduit, Variation::TwoWorkers),
                (Scenario::Connections, Peer::Envoy, Variation::Resumption),
                (Scenario::Connections, Peer::Conduit, Variation::Resumption),
            ]
        );
    }
}
