//! The plots of a run: which values go into which chart. Must not draw.

use super::svg::{Axis, Bar, Group, Line, Panel, bars, panels};
use crate::{
    peers::Peer,
    results::{Metric, Query, Results},
    scenario::Scenario,
};

/// A plot, and the file that it goes to.
pub(super) struct Plot {
    /// Name of the file.
    pub(super) file: &'static str,
    /// What it shows, for those who do not see it.
    pub(super) title: &'static str,
    /// The picture.
    pub(super) svg: String,
}

/// The plots that a run has values for.
pub(super) fn all(results: &Results) -> Vec<Plot> {
    [cpu(results), rates(results), connections(results)].into_iter().flatten().collect()
}

/// The number by which the picture knows a peer, so that each has one colour everywhere.
fn series(peer: Peer) -> usize {
    match peer {
        Peer::None => 0,
        Peer::Floor => 1,
        Peer::Haproxy => 2,
        Peer::Envoy => 3,
        Peer::Conduit => 4,
    }
}

fn legend(peers: impl Iterator<Item = Peer>) -> Vec<(usize, String)> {
    peers.map(|peer| (series(peer), peer.to_string())).collect()
}

fn cpu(results: &Results) -> Option<Plot> {
    const LOADS: [(Scenario, &str); 4] = [
        (Scenario::MaxHttp1, "HTTP/1.1"),
        (Scenario::MaxHttp2, "HTTP/2"),
        (Scenario::MaxGrpc, "gRPC"),
        (Scenario::MaxTcp, "TCP echo"),
    ];
    let group = |(scenario, name): &(Scenario, &'static str)| {
        let bar = |peer: &Peer| {
            let spread = results.spread(*peer, Query::new(*scenario, Metric::Cpu))?;
            Some(Bar { series: series(*peer), value: spread.median, range: (spread.least, spread.most) })
        };
        Group { name, bars: results.peers().iter().filter_map(bar).collect() }
    };
    let groups: Vec<Group> = LOADS.iter().map(group).filter(|group| !group.bars.is_empty()).collect();
    let title = "CPU of both proxies for each exchange, as many as go";
    let values = groups.iter().flat_map(|group| &group.bars).map(|bar| bar.range.1);
    let axis = Axis::linear("µs of CPU, median; whiskers: least and most", values);
    let measured = results.peers().into_iter().filter(|peer| *peer != Peer::None);
    let svg = bars(title, &legend(measured), &axis, &groups);
    (!groups.is_empty()).then_some(Plot { file: "cpu.svg", title, svg })
}

fn rates(results: &Results) -> Option<Plot> {
    let title = "Latency of HTTP/1.1 against the rate of requests";
    let scenario = Scenario::RateHttp1;
    let panel = |metric, name: &str| {
        let lines = lines(results, scenario, metric);
        Panel {
            title: name.to_owned(),
            x: Axis::linear("requests a second", points(&lines).map(|point| point.0)),
            y: Axis::logarithmic("µs, from when a request was due", points(&lines).map(|point| point.1)),
            lines,
        }
    };
    let both = [panel(Metric::P50, "p50"), panel(Metric::P99, "p99")];
    let svg = panels(title, &legend(results.peers().into_iter()), &both);
    (!both[0].lines.is_empty()).then_some(Plot { file: "latency.svg", title, svg })
}

fn connections(results: &Results) -> Option<Plot> {
    let title = "Resident memory of one proxy against idle connections";
    let panel = |metric, name: &str| {
        let lines = lines(results, Scenario::Memory, metric);
        Panel {
            title: name.to_owned(),
            x: Axis::linear("open connections", points(&lines).map(|point| point.0)),
            y: Axis::linear("MiB", points(&lines).map(|point| point.1)),
            lines,
        }
    };
    let both = [panel(Metric::ResidentHttp1, "HTTP/1.1"), panel(Metric::ResidentTcp, "TCP")];
    let measured = results.peers().into_iter().filter(|peer| *peer != Peer::None);
    let svg = panels(title, &legend(measured), &both);
    (!both[0].lines.is_empty()).then_some(Plot { file: "memory.svg", title, svg })
}

fn lines(results: &Results, scenario: Scenario, metric: Metric) -> Vec<Line> {
    let steps = results.steps(scenario, metric);
    let line = |peer: Peer| {
        let point = |step: &u32| {
            let spread = results.spread(peer, Query::new(scenario, metric).at(*step))?;
            Some((f64::from(*step), spread.median))
        };
        Line { series: series(peer), points: steps.iter().filter_map(point).collect() }
    };
    results.peers().into_iter().map(line).filter(|line| !line.points.is_empty()).collect()
}

fn points(lines: &[Line]) -> impl Iterator<Item = &(f64, f64)> {
    lines.iter().flat_map(|line| &line.points)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{peers::Variation, results::Reading};

    #[test]
    fn each_peer_that_was_measured_has_a_line_and_a_name_and_what_was_not_measured_has_no_plot() {
        let reading = |peer, at, p50: f64| Reading {
            scenario: Scenario::RateHttp1,
            peer,
            variation: Variation::Usual,
            repetition: 1,
            at: Some(at),
            busy: 0.0,
            values: [(Metric::P50, p50), (Metric::P99, p50 * 5.0)].into(),
        };
        let readings = [(Peer::None, 50.0), (Peer::Conduit, 150.0)]
            .into_iter()
            .flat_map(|(peer, p50)| [reading(peer, 500, p50), reading(peer, 1000, p50 * 1.1)]);
        let plots = all(&Results { readings: readings.collect(), ..Results::default() });
        let [Plot { file: "latency.svg", svg, .. }] = &plots[..] else { panic!("one plot") };
        assert_eq!(svg.matches("<polyline").count(), 4, "two peers in two panels");
        assert!(svg.contains(">no proxy<") && svg.contains(">Conduit<") && !svg.contains(">Envoy<"));
    }
}
