//! What was measured, as it is kept in JSON, and the numbers that are drawn from it: medians, spreads, differences. Must
//! not know how anything is measured or shown.

use crate::{
    peers::{Peer, Variation},
    scenario::Scenario,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// When it began, in seconds since 1970.
    pub(crate) began: u64,
    /// How Conduit's binaries were built.
    pub(crate) build: String,
    /// On what.
    pub(crate) machine: Machine,
    /// What the peers say their version is.
    pub(crate) versions: BTreeMap<Peer, String>,
    /// Every value.
    pub(crate) readings: Vec<Reading>,
}

/// What measured values depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) processor: String,
    /// CPUs that this run could use.
    pub(crate) cpus: usize,
    /// The kernel's version.
    pub(crate) kernel: String,
}

/// What one peer did once in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// In what.
    pub(crate) scenario: Scenario,
    /// Who.
    pub(crate) peer: Peer,
    /// In what it was unusual.
    #[serde(default)]
    pub(crate) variation: Variation,
    /// From 1.
    pub(crate) repetition: u32,
    /// At which rate or with how many connections, where a scenario has several.
    pub(crate) at: Option<u32>,
    /// Processes per core were waiting then: above the number of CPUs, the machine did something else besides.
    pub(crate) busy: f64,
    /// What came of it.
    pub(crate) values: Values,
}

/// Values of one reading.
pub(crate) type Values = BTreeMap<Metric, f64>;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Exchanges a second.
    Rate,
    /// CPU of both proxies, in µs per exchange.
    Cpu,
    /// Of the client's.
    CpuClient,
    /// Of the server's.
    CpuServer,
    /// Latency from the intended start, in µs.
    P50,
    /// Likewise.
    P99,
    /// Likewise.
    P999,
    /// Exchanges that failed or never ended.
    Errors,
    /// CPU of both proxies, in ms per 10⁹ bytes.
    CpuPerGigabyte,
    /// 10⁶ bytes a second.
    Megabytes,
    /// From the start of the client's proxy to the first answer, in ms.
    Start,
    /// Resident memory of the client's proxy, in MiB.
    Resident,
    /// The part of it that is its own, in MiB.
    Private,
    /// Resident memory 10 s after a load, in MiB.
    ResidentAfter,
    /// Resident memory of the client's proxy with so many connections over HTTP/1.1, in MiB.
    ResidentHttp1,
    /// With so many over TCP.
    ResidentTcp,
    /// TLS sessions of the client's proxy that were resumed, in percent.
    Resumed,
}

/// The middle of some values, and how far they go to both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The greatest.
    pub(crate) most: f64,
}

impl Spread {
    /// Of these values; none of none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, least, most })
    }
}

/// A value that readings of one scenario have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Query {
    /// In which scenario.
    pub(crate) scenario: Scenario,
    /// In what the peer was unusual.
    pub(crate) variation: Variation,
    /// At which rate or with how many connections.
    pub(crate) at: Option<u32>,
    /// Which value.
    pub(crate) metric: Metric,
    /// What of it.
    pub(crate) share: Share,
}

/// What of a value is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// All of it.
    Whole,
    /// What there is more than without a proxy.
    Added,
}

impl Query {
    /// A whole value of a scenario without steps.
    pub(crate) const fn new(scenario: Scenario, metric: Metric) -> Self {
        Self { scenario, variation: Variation::Usual, at: None, metric, share: Share::Whole }
    }

    /// Of a peer that is unusual in this.
    pub(crate) const fn under(self, variation: Variation) -> Self {
        Self { variation, ..self }
    }

    /// With so many connections, or at such a rate.
    pub(crate) const fn at(self, at: u32) -> Self {
        Self { at: Some(at), ..self }
    }

    /// What there is more than without a proxy.
    pub(crate) const fn added(self) -> Self {
        Self { share: Share::Added, ..self }
    }
}

impl Results {
    /// What a peer's values are, over all repetitions; none where there are none.
    pub(crate) fn spread(&self, peer: Peer, query: Query) -> Option<Spread> {
        let own = self.values(peer, query);
        match query.share {
            Share::Whole => Spread::of(own.into_values().collect()),
            Share::Added => {
                // By repetition: what else the machine did then, it did to both.
                let without = self.values(Peer::None, query);
                let added = own.iter().filter_map(|(repetition, value)| Some(value - without.get(repetition)?));
                Spread::of(added.collect())
            }
        }
    }

    /// The peers that have readings, in their order.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let mut peers: Vec<_> = self.readings.iter().map(|reading| reading.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// The rates or numbers of connections that a scenario was read at.
    pub(crate) fn steps(&self, scenario: Scenario, metric: Metric) -> Vec<u32> {
        let of_it = self.readings.iter().filter(|reading| reading.scenario == scenario);
        let mut steps: Vec<_> =
            of_it.filter(|reading| reading.values.contains_key(&metric)).filter_map(|reading| reading.at).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// By repetition.
    fn values(&self, peer: Peer, query: Query) -> BTreeMap<u32, f64> {
        let Query { scenario, variation, at, .. } = query;
        let matching = self.readings.iter().filter(|reading| {
            (reading.peer, reading.scenario, reading.variation, reading.at) == (peer, scenario, variation, at)
        });
        matching.filter_map(|reading| Some((reading.repetition, *reading.values.get(&query.metric)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(peer: Peer, repetition: u32, p50: f64) -> Reading {
        let values = [(Metric::P50, p50)].into();
        let variation = Variation::Usual;
        Reading { scenario: Scenario::LatencyHttp1, peer, variation, repetition, at: None, busy: 0.0, values }
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn what_is_added_is_the_difference_within_a_repetition() {
        let readings = vec![
            reading(Peer::None, 1, 50.0),
            reading(Peer::None, 2, 500.0),
            reading(Peer::Conduit, 1, 250.0),
            reading(Peer::Conduit, 2, 710.0),
            // Without a counterpart it says nothing.
            reading(Peer::Conduit, 3, 9999.0),
        ];
        let results = Results { readings, ..Results::default() };
        let query = Query::new(Scenario::LatencyHttp1, Metric::P50).added();
        let spread = results.spread(Peer::Conduit, query).unwrap();
        assert_eq!(spread, Spread { median: 205.0, least: 200.0, most: 210.0 });
        assert_eq!(results.spread(Peer::Envoy, query), None);
    }
}
