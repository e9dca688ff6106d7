//! What Conduit wants to reach, and whether a run says that it has: ratios to peers within the run, because absolute numbers
//! say more about the machine. Must not know how it is shown.

use crate::{
    peers::{Peer, Variation},
    results::{Metric, Query, Results, Spread},
    scenario::Scenario,
};

/// One thing to reach, in two steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// In a user's words.
    pub(crate) what: &'static str,
    /// The value.
    pub(crate) query: Query,
    /// What it is to be divided by before it is looked at, such as 2,000 for ms of each of two proxies.
    divisor: f64,
    /// Digits behind the point that make sense, and the unit.
    pub(crate) unit: (usize, &'static str),
    /// The first step.
    pub(crate) first: Limit,
    /// What comes then.
    pub(crate) then: Limit,
}

/// What a value must not exceed, or must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit {
    /// What it is compared with.
    pub(crate) against: Against,
    /// Which side is good.
    pub(crate) bound: Bound,
    /// Times what it is compared with.
    pub(crate) times: f64,
}

/// What a value is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Against {
    /// The same of a peer.
    Peer(Peer),
    /// Another value of Conduit's own.
    Own(Query, &'static str),
    /// Nothing: a number.
    Number,
}

/// Which side of a limit is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Below it.
    AtMost,
    /// Above it.
    AtLeast,
}

/// A value beside a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// The value in terms of what it is compared with.
    pub(crate) ratio: f64,
    /// Whether it is on the good side.
    pub(crate) met: bool,
}

const fn at_most(against: Against, times: f64) -> Limit {
    Limit { against, bound: Bound::AtMost, times }
}

const fn at_least(against: Against, times: f64) -> Limit {
    Limit { against, bound: Bound::AtLeast, times }
}

const HAPROXY: Against = Against::Peer(Peer::Haproxy);
const ENVOY: Against = Against::Peer(Peer::Envoy);
const NUMBER: Against = Against::Number;
const IDLE: Against = Against::Own(Query::new(Scenario::Memory, Metric::Resident), "idle");

const fn cpu(what: &'static str, scenario: Scenario, first: Limit, then: Limit) -> Target {
    target(what, Query::new(scenario, Metric::Cpu), (1, "µs"), first, then)
}

const fn rate(what: &'static str, scenario: Scenario, first: Limit, then: Limit) -> Target {
    target(what, Query::new(scenario, Metric::Rate), (0, "/s"), first, then)
}

const fn memory(what: &'static str, query: Query, first: Limit, then: Limit) -> Target {
    target(what, query, (1, "MiB"), first, then)
}

const fn target(what: &'static str, query: Query, unit: (usize, &'static str), first: Limit, then: Limit) -> Target {
    Target { what, query, divisor: 1.0, unit, first, then }
}

/// All of them.
pub(crate) const TARGETS: [Target; 22] = [
    cpu("CPU per HTTP/1.1 request", Scenario::MaxHttp1, at_most(HAPROXY, 0.85), at_most(HAPROXY, 0.70)),
    cpu("CPU per HTTP/2 request", Scenario::MaxHttp2, at_most(ENVOY, 0.50), at_most(HAPROXY, 1.0)),
    cpu("CPU per gRPC call", Scenario::MaxGrpc, at_most(ENVOY, 0.45), at_most(HAPROXY, 1.0)),
    cpu("CPU per TCP echo", Scenario::MaxTcp, at_most(HAPROXY, 0.85), at_most(HAPROXY, 0.75)),
    rate("throughput, HTTP/1.1", Scenario::MaxHttp1, at_least(HAPROXY, 1.1), at_least(HAPROXY, 1.35)),
    rate("throughput, HTTP/2", Scenario::MaxHttp2, at_least(ENVOY, 2.2), at_least(HAPROXY, 1.0)),
    rate("throughput, gRPC", Scenario::MaxGrpc, at_least(ENVOY, 2.2), at_least(HAPROXY, 1.0)),
    added("added p50, HTTP/1.1 at 1,000/s", Metric::P50, at_most(HAPROXY, 1.1), at_most(HAPROXY, 0.95)),
    added("added p99, HTTP/1.1 at 1,000/s", Metric::P99, at_most(HAPROXY, 1.0), at_most(HAPROXY, 0.8)),
    Target {
        divisor: 2000.0,
        unit: (2, "ms"),
        ..added("one proxy's share of that p99", Metric::P99, at_most(NUMBER, 1.0), at_most(NUMBER, 0.3))
    },
    cpu("CPU per new mutual-TLS connection", Scenario::Connections, at_most(ENVOY, 0.60), at_most(ENVOY, 0.40)),
    scaling("CPU per HTTP/1.1 request, two workers", Variation::TwoWorkers, (Variation::EitherCpu, "one"), 1.15),
    scaling("CPU per HTTP/1.1 request, 1,000 Services", Variation::Services, (Variation::Usual, "one"), 1.1),
    scaling("CPU per HTTP/1.1 request, 1,000 endpoints", Variation::Endpoints, (Variation::Usual, "one"), 1.1),
    bulk("CPU per GB, down", Scenario::BulkDown),
    bulk("CPU per GB, up", Scenario::BulkUp),
    memory("idle memory, resident", MEMORY, at_most(NUMBER, 8.0), at_most(NUMBER, 6.0)),
    memory(
        "idle memory, private",
        Query { metric: Metric::Private, ..MEMORY },
        at_most(NUMBER, 2.0),
        at_most(NUMBER, 1.2),
    ),
    memory(
        "1,000 idle HTTP/1.1 connections",
        held(Metric::ResidentHttp1),
        at_most(NUMBER, 16.0),
        at_most(NUMBER, 10.0),
    ),
    memory("1,000 idle TCP connections", held(Metric::ResidentTcp), at_most(NUMBER, 18.0), at_most(NUMBER, 10.0)),
    memory(
        "memory 10 s after a load",
        Query { metric: Metric::ResidentAfter, ..MEMORY },
        at_most(IDLE, 1.3),
        at_most(IDLE, 1.1),
    ),
    target(
        "start to first answer",
        Query { metric: Metric::Start, ..MEMORY },
        (0, "ms"),
        at_most(NUMBER, 45.0),
        at_most(NUMBER, 30.0),
    ),
];

/// What more of something may cost in terms of one; there is no second step.
const fn scaling(what: &'static str, more: Variation, one: (Variation, &'static str), times: f64) -> Target {
    let query = Query::new(Scenario::MaxHttp1, Metric::Cpu);
    let limit = at_most(Against::Own(query.under(one.0), one.1), times);
    target(what, query.under(more), (1, "µs"), limit, limit)
}

const MEMORY: Query = Query::new(Scenario::Memory, Metric::Resident);

const fn held(metric: Metric) -> Query {
    Query::new(Scenario::Memory, metric).at(1000)
}

const fn added(what: &'static str, metric: Metric, first: Limit, then: Limit) -> Target {
    target(what, Query::new(Scenario::LatencyHttp1, metric).added(), (0, "µs"), first, then)
}

const fn bulk(what: &'static str, scenario: Scenario) -> Target {
    target(what, Query::new(scenario, Metric::CpuPerGigabyte), (0, "ms"), at_most(ENVOY, 0.85), at_most(ENVOY, 0.65))
}

impl Target {
    /// What Conduit has.
    pub(crate) fn value(&self, results: &Results) -> Option<Spread> {
        let spread = results.spread(Peer::Conduit, self.query)?;
        let part = |value| value / self.divisor;
        Some(Spread { median: part(spread.median), least: part(spread.least), most: part(spread.most) })
    }

    /// Whether it is good enough; none where the run does not say.
    pub(crate) fn verdict(&self, results: &Results, limit: Limit) -> Option<Verdict> {
        let value = self.value(results)?.median;
        let other = match limit.against {
            Against::Peer(peer) => results.spread(peer, self.query)?.median / self.divisor,
            Against::Own(query, _) => results.spread(Peer::Conduit, query)?.median,
            Against::Number => 1.0,
        };
        let ratio = value / other;
        // A peer that adds nothing leaves nothing to compare with.
        let met = match limit.bound {
            Bound::AtMost => ratio <= limit.times,
            Bound::AtLeast => ratio >= limit.times,
        };
        (other > 0.0).then_some(Verdict { ratio, met })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Reading;

    fn results(values: &[(Peer, Scenario, Metric, f64)]) -> Results {
        let reading = |&(peer, scenario, metric, value): &(Peer, Scenario, Metric, f64)| Reading {
            scenario,
            peer,
            variation: Variation::Usual,
            repetition: 1,
            at: None,
            busy: 0.0,
            values: [(metric, value)].into(),
        };
        Results { readings: values.iter().map(reading).collect(), ..Results::default() }
    }

    fn named(what: &str) -> Target {
        *TARGETS.iter().find(|target| target.what == what).unwrap()
    }

    #[test]
    fn cost_is_to_be_at_most_and_throughput_at_least_so_many_times_a_peer_s() {
        let (h1, cpu, rate) = (Scenario::MaxHttp1, Metric::Cpu, Metric::Rate);
        for (ours, met) in [((84.0, 111.0), true), ((86.0, 109.0), false)] {
            let results = results(&[
                (Peer::Conduit, h1, cpu, ours.0),
                (Peer::Haproxy, h1, cpu, 100.0),
                (Peer::Conduit, h1, rate, ours.1),
                (Peer::Haproxy, h1, rate, 100.0),
            ]);
            for (target, ratio) in
                [(named("CPU per HTTP/1.1 request"), ours.0 / 100.0), (named("throughput, HTTP/1.1"), ours.1 / 100.0)]
            {
                assert_eq!(target.verdict(&results, target.first), Some(Verdict { ratio, met }), "{}", target.what);
            }
        }
    }

    #[test]
    fn latency_is_what_is_added_and_each_proxy_has_half_of_it() {
        let (lat, p99) = (Scenario::LatencyHttp1, Metric::P99);
        let results = results(&[
            (Peer::None, lat, p99, 100.0),
            (Peer::Haproxy, lat, p99, 600.0),
            (Peer::Conduit, lat, p99, 1100.0),
        ]);
        let p99 = named("added p99, HTTP/1.1 at 1,000/s");
        assert_eq!(p99.verdict(&results, p99.first), Some(Verdict { ratio: 2.0, met: false }));
        let share = named("one proxy's share of that p99");
        assert_eq!(share.verdict(&results, share.first), Some(Verdict { ratio: 0.5, met: true }));
        assert_eq!(share.verdict(&results, share.then), Some(Verdict { ratio: 0.5, met: false }));
    }

    #[test]
    fn memory_after_a_load_is_compared_with_conduit_s_own_when_idle() {
        let results = results(&[(Peer::Conduit, Scenario::Memory, Metric::Resident, 10.0)]);
        let after = named("memory 10 s after a load");
        assert_eq!(after.verdict(&results, after.first), None, "nothing was measured");
        let mut both = results;
        both.readings[0].values.insert(Metric::ResidentAfter, 12.0);
        assert_eq!(after.verdict(&both, after.first), Some(Verdict { ratio: 1.2, met: true }));
    }

    #[test]
    fn two_workers_are_compared_with_one_on_the_same_cpus() {
        let (h1, cpu) = (Scenario::MaxHttp1, Metric::Cpu);
        let mut results =
            results(&[(Peer::Conduit, h1, cpu, 10.0), (Peer::Conduit, h1, cpu, 20.0), (Peer::Conduit, h1, cpu, 22.0)]);
        results.readings[1].variation = Variation::EitherCpu;
        results.readings[2].variation = Variation::TwoWorkers;
        let target = named("CPU per HTTP/1.1 request, two workers");
        assert_eq!(target.verdict(&results, target.first), Some(Verdict { ratio: 1.1, met: true }));
    }

    #[test]
    fn without_the_peer_there_is_no_verdict() {
        let results = results(&[(Peer::Conduit, Scenario::MaxHttp2, Metric::Cpu, 10.0)]);
        let target = named("CPU per HTTP/2 request");
        assert_eq!(target.verdict(&results, target.first), None);
    }
}
