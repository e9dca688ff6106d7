//! Tables of Conduit beside itself with one thing changed, and of new and resumed sessions beside Envoy's. Must not measure or
//! judge.

use super::tables::{NOTHING, Table, with_range};
use crate::{
    peers::{Peer, Variation},
    results::{Metric, Query, Results},
    scenario::Scenario,
};

/// All that a run has something for.
pub(super) fn all(results: &Results) -> impl Iterator<Item = Table> {
    [more(results), tls(results), sessions(results)].into_iter().flatten()
}

fn cell(results: &Results, peer: Peer, query: Query) -> String {
    results.spread(peer, query).map_or(NOTHING.to_owned(), with_range::<1>)
}

/// More Services, endpoints, workers.
fn more(results: &Results) -> Option<Table> {
    const VARIATIONS: [Variation; 5] =
        [Variation::Usual, Variation::Services, Variation::Endpoints, Variation::EitherCpu, Variation::TwoWorkers];
    const VALUES: [(&str, Scenario, Metric); 6] = [
        ("HTTP/1.1 CPU µs", Scenario::MaxHttp1, Metric::Cpu),
        ("of it the client's proxy", Scenario::MaxHttp1, Metric::CpuClient),
        ("HTTP/2 CPU µs", Scenario::MaxHttp2, Metric::Cpu),
        ("of it the client's proxy", Scenario::MaxHttp2, Metric::CpuClient),
        ("TCP echo CPU µs", Scenario::MaxTcp, Metric::Cpu),
        ("private MiB", Scenario::Memory, Metric::Private),
    ];
    let row = |variation: &Variation| {
        let cells = VALUES
            .map(|(_, scenario, metric)| cell(results, Peer::Conduit, Query::new(scenario, metric).under(*variation)));
        std::iter::once(variation.to_string()).chain(cells).collect()
    };
    table(
        results,
        &VARIATIONS[1..],
        "Conduit with more of something: CPU of both proxies for each exchange, and memory of the client's when idle",
        &VALUES.map(|(name, ..)| name),
        VARIATIONS.iter().map(row).collect(),
    )
}

/// What mutual TLS adds.
fn tls(results: &Results) -> Option<Table> {
    const ROWS: [(&str, Scenario, Metric, Variation); 8] = [
        ("HTTP/1.1 request, µs", Scenario::MaxHttp1, Metric::Cpu, Variation::Usual),
        ("HTTP/2 request, µs", Scenario::MaxHttp2, Metric::Cpu, Variation::Usual),
        ("gRPC call, µs", Scenario::MaxGrpc, Metric::Cpu, Variation::Usual),
        ("TCP echo of 1,024 bytes, µs", Scenario::MaxTcp, Metric::Cpu, Variation::Usual),
        ("new connection, new session, µs", Scenario::Connections, Metric::Cpu, Variation::NewSessions),
        ("new connection, resumed session, µs", Scenario::Connections, Metric::Cpu, Variation::Resumption),
        ("GB down, ms", Scenario::BulkDown, Metric::CpuPerGigabyte, Variation::Usual),
        ("GB up, ms", Scenario::BulkUp, Metric::CpuPerGigabyte, Variation::Usual),
    ];
    let row = |&(name, scenario, metric, with): &(&str, _, _, _)| {
        let query = Query::new(scenario, metric);
        let [plain, tls] = [Variation::Plaintext, with].map(|variation| query.under(variation));
        let median = |query| results.spread(Peer::Conduit, query).map(|spread| spread.median);
        let added = median(plain).zip(median(tls)).map(|(plain, tls)| format!("{:.1}", tls - plain));
        let cells = [plain, tls].map(|query| cell(results, Peer::Conduit, query));
        [name.to_owned()].into_iter().chain(cells).chain([added.unwrap_or(NOTHING.to_owned())]).collect()
    };
    table(
        results,
        &[Variation::Plaintext],
        "What mutual TLS adds: CPU of both proxies",
        &["without", "with", "added"],
        ROWS.iter().map(row).collect(),
    )
}

/// New connections with new and with resumed sessions.
fn sessions(results: &Results) -> Option<Table> {
    const VARIATIONS: [Variation; 2] = [Variation::NewSessions, Variation::Resumption];
    const VALUES: [(&str, Metric); 4] = [
        ("CPU µs", Metric::Cpu),
        ("client's proxy", Metric::CpuClient),
        ("server's proxy", Metric::CpuServer),
        ("resumed %", Metric::Resumed),
    ];
    let row = |(variation, peer): (Variation, Peer)| {
        let query = |metric| Query::new(Scenario::Connections, metric).under(variation);
        let cells = VALUES.map(|(_, metric)| cell(results, peer, query(metric)));
        [format!("{peer}, {variation}")].into_iter().chain(cells).collect()
    };
    let pairs = VARIATIONS.iter().flat_map(|variation| [(*variation, Peer::Envoy), (*variation, Peer::Conduit)]);
    table(
        results,
        &VARIATIONS,
        "New TCP connections, one at a time for each of 8 clients, by whether their TLS sessions are resumed",
        &VALUES.map(|(name, ..)| name),
        pairs.map(row).collect(),
    )
}

/// A table of those rows that have values, if any of these variations was measured.
fn table(
    results: &Results,
    variations: &[Variation],
    title: &'static str,
    names: &[&str],
    rows: Vec<Vec<String>>,
) -> Option<Table> {
    let head = std::iter::once("").chain(names.iter().copied()).map(ToOwned::to_owned).collect();
    let rows = rows.into_iter().filter(|row| row[1..].iter().any(|cell| cell != NOTHING)).collect();
    let measured = results.readings.iter().any(|reading| variations.contains(&reading.variation));
    measured.then_some(Table { title, head, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Reading;

    #[test]
    fn what_tls_adds_is_the_difference_of_medians_and_what_was_not_measured_has_no_row() {
        let reading = |variation, cpu| Reading {
            scenario: Scenario::MaxHttp1,
            peer: Peer::Conduit,
            variation,
            repetition: 1,
            at: None,
            busy: 0.0,
            values: [(Metric::Cpu, cpu)].into(),
        };
        let usual = vec![reading(Variation::Usual, 30.0)];
        assert_eq!(all(&Results { readings: usual.clone(), ..Results::default() }).count(), 0);
        let readings = [usual, vec![reading(Variation::Plaintext, 22.5)]].concat();
        let tables: Vec<_> = all(&Results { readings, ..Results::default() }).collect();
        let [table] = &tables[..] else { panic!("{tables:?}") };
        assert_eq!(
            table.markdown(),
            "|  | without | with | added |\n| --- | ---: | ---: | ---: |\n| HTTP/1.1 request, µs | 22.5 | 30.0 | 7.5 |\n"
        );
    }
}
