//! Tables of a run, as text for a terminal and as Markdown. Must not measure or judge.

use super::{
    targets::{Against, Bound, Limit, TARGETS, Target},
    variations,
};
use crate::{
    peers::{Peer, Variation},
    results::{Metric, Query, Results, Spread},
    scenario::Scenario,
};

/// What stands where nothing was measured.
pub(super) const NOTHING: &str = "–";

/// Rows under a head; the first column is what a row is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// What it is about.
    pub(crate) title: &'static str,
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    /// For a terminal: columns of even width.
    pub(crate) fn text(&self) -> String {
        let lines: Vec<&Vec<String>> = std::iter::once(&self.head).chain(&self.rows).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |line: &&Vec<String>| {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        format!("{}\n\n{}", self.title, lines.iter().map(line).collect::<String>())
    }

    /// For a page.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = std::iter::once("---").chain(std::iter::repeat_n("---:", self.head.len() - 1));
        let rule: Vec<String> = rule.map(ToOwned::to_owned).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}{}{rows}", line(&self.head), line(&rule))
    }
}

/// All that a run has something for.
pub(crate) fn all(results: &Results) -> Vec<Table> {
    let tables = [throughput(results), latency(results), bulk(results), memory(results)];
    let tables = tables.into_iter().filter(|table| table.head.len() > 1);
    tables.chain(variations::all(results)).chain([targets(results)]).collect()
}

/// A column: its head, the value, and how it is written.
struct Column(String, Query, fn(Spread) -> String);

fn table(title: &'static str, results: &Results, columns: Vec<Column>) -> Table {
    let peers = results.peers();
    let any = |column: &Column| peers.iter().any(|peer| results.spread(*peer, column.1).is_some());
    let columns: Vec<Column> = columns.into_iter().filter(any).collect();
    let row = |peer: &Peer| {
        let cell = |column: &Column| results.spread(*peer, column.1).map_or(NOTHING.to_owned(), column.2);
        std::iter::once(peer.to_string()).chain(columns.iter().map(cell)).collect::<Vec<_>>()
    };
    let rows: Vec<_> = peers.iter().map(row).filter(|row| row[1..].iter().any(|cell| cell != NOTHING)).collect();
    let head = std::iter::once(String::new()).chain(columns.iter().map(|column| column.0.clone())).collect();
    Table { title, head, rows }
}

fn throughput(results: &Results) -> Table {
    const LOADS: [(Scenario, &str); 5] = [
        (Scenario::MaxHttp1, "HTTP/1.1"),
        (Scenario::MaxHttp2, "HTTP/2"),
        (Scenario::MaxGrpc, "gRPC"),
        (Scenario::MaxTcp, "TCP echo"),
        (Scenario::Connections, "new connection"),
    ];
    let columns = LOADS.iter().flat_map(|(scenario, name)| {
        [
            Column(format!("{name} /s"), Query::new(*scenario, Metric::Rate), |spread| whole(spread.median)),
            Column("CPU µs".to_owned(), Query::new(*scenario, Metric::Cpu), with_range::<1>),
        ]
    });
    table(
        "As much as goes: exchanges a second, and CPU of both proxies for each (least–most)",
        results,
        columns.collect(),
    )
}

fn latency(results: &Results) -> Table {
    let columns = [(Scenario::LatencyHttp1, "HTTP/1.1"), (Scenario::LatencyGrpc, "gRPC")].into_iter();
    let columns = columns.flat_map(|(scenario, name)| {
        [(Metric::P50, "p50"), (Metric::P99, "p99")].into_iter().flat_map(move |(metric, quantile)| {
            let query = Query::new(scenario, metric);
            [
                Column(format!("{name} {quantile}"), query, |spread| whole(spread.median)),
                Column("added".to_owned(), query.added(), with_range::<0>),
            ]
        })
    });
    table("Latency at 1,000 a second, in µs, and what there is more than with no proxy", results, columns.collect())
}

fn bulk(results: &Results) -> Table {
    let columns = [(Scenario::BulkDown, "down"), (Scenario::BulkUp, "up")].into_iter().flat_map(|(scenario, way)| {
        [
            Column(format!("{way} MB/s"), Query::new(scenario, Metric::Megabytes), |spread| whole(spread.median)),
            Column("CPU ms/GB".to_owned(), Query::new(scenario, Metric::CpuPerGigabyte), with_range::<0>),
        ]
    });
    table("One TCP connection with 1 GiB", results, columns.collect())
}

fn memory(results: &Results) -> Table {
    let query = |metric| Query::new(Scenario::Memory, metric);
    let column = |head: &str, query| Column(head.to_owned(), query, with_range::<1>);
    let columns = vec![
        Column("start ms".to_owned(), query(Metric::Start), with_range::<0>),
        column("idle", query(Metric::Resident)),
        column("private", query(Metric::Private)),
        column("1,000 HTTP/1.1", query(Metric::ResidentHttp1).at(1000)),
        column("1,000 TCP", query(Metric::ResidentTcp).at(1000)),
        column("10 s after load", query(Metric::ResidentAfter)),
    ];
    table("Start to first answer, and resident memory of the client's proxy in MiB", results, columns)
}

/// The targets that a run says something about.
pub(crate) fn targets(results: &Results) -> Table {
    let row = |target: &Target| {
        let value = target.value(results)?;
        let (digits, unit) = target.unit;
        let verdict = |limit: Limit| {
            let verdict = target.verdict(results, limit);
            verdict.map_or(NOTHING.to_owned(), |verdict| {
                let met = if verdict.met { "met" } else { "NOT met" };
                let ratio = match limit.against {
                    Against::Number => String::new(),
                    Against::Peer(_) | Against::Own(..) => format!(", is {:.2}", verdict.ratio),
                };
                format!("{}{ratio}: {met}", limit_text(limit, unit))
            })
        };
        let told = format!("{:.digits$} {unit}", value.median);
        Some(vec![target.what.to_owned(), told, verdict(target.first), verdict(target.then)])
    };
    Table {
        title: "Targets",
        head: ["", "Conduit", "first", "then"].map(ToOwned::to_owned).to_vec(),
        rows: TARGETS.iter().filter_map(row).collect(),
    }
}

/// Who failed in what: each line a peer, a scenario and how many exchanges failed in it over all repetitions.
pub(crate) fn failures(results: &Results) -> Vec<String> {
    let mut failed = std::collections::BTreeMap::<_, f64>::new();
    for reading in &results.readings {
        let errors = reading.values.get(&Metric::Errors).copied().unwrap_or_default();
        *failed.entry((reading.peer, reading.variation, reading.scenario)).or_default() += errors;
    }
    let failed = failed.into_iter().filter(|(_, errors)| *errors > 0.0);
    let told = |((peer, variation, scenario), errors): ((_, Variation, _), _)| {
        let variation = if variation == Variation::Usual { String::new() } else { format!(", {variation}") };
        format!("{peer}, {scenario}{variation}: {errors} exchanges failed")
    };
    failed.map(told).collect()
}

/// How many targets are met in the first step and in the second, and of how many the run says something.
pub(crate) fn met(results: &Results) -> ((usize, usize), usize) {
    let count = |limit: fn(&Target) -> Limit| {
        let met =
            TARGETS.iter().filter(|target| target.verdict(results, limit(target)).is_some_and(|verdict| verdict.met));
        met.count()
    };
    let all = TARGETS.iter().filter(|target| target.value(results).is_some()).count();
    ((count(|target| target.first), count(|target| target.then)), all)
}

fn limit_text(limit: Limit, unit: &str) -> String {
    let sign = match limit.bound {
        Bound::AtMost => "≤",
        Bound::AtLeast => "≥",
    };
    match limit.against {
        Against::Peer(peer) => format!("{sign} {} × {peer}", limit.times),
        Against::Own(_, name) => format!("{sign} {} × {name}", limit.times),
        Against::Number => format!("{sign} {} {unit}", limit.times),
    }
}

/// With separators between thousands.
fn whole(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

pub(super) fn with_range<const DIGITS: usize>(spread: Spread) -> String {
    let Spread { median, least, most } = spread;
    if least == most {
        return format!("{median:.DIGITS$}");
    }
    format!("{median:.DIGITS$} ({least:.DIGITS$}–{most:.DIGITS$})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Reading;

    fn results() -> Results {
        let reading = |peer, repetition, rate, cpu| Reading {
            scenario: Scenario::MaxHttp1,
            peer,
            variation: Variation::Usual,
            repetition,
            at: None,
            busy: 0.0,
            values: [(Metric::Rate, rate), (Metric::Cpu, cpu)].into(),
        };
        let readings = vec![
            reading(Peer::Haproxy, 1, 20_000.0, 50.0),
            reading(Peer::Conduit, 1, 30_000.0, 30.0),
            reading(Peer::Conduit, 2, 30_400.0, 34.0),
        ];
        Results { readings, ..Results::default() }
    }

    #[test]
    fn a_table_has_only_what_was_measured() {
        let tables = all(&results());
        let titles: Vec<_> = tables.iter().map(|table| table.title).collect();
        assert_eq!(titles.len(), 2, "{titles:?}");
        assert_eq!(
            tables[0].markdown(),
            "|  | HTTP/1.1 /s | CPU µs |\n| --- | ---: | ---: |\n| haproxy | 20,000 | 50.0 |\n\
             | Conduit | 30,200 | 32.0 (30.0–34.0) |\n"
        );
    }

    #[test]
    fn columns_on_a_terminal_are_as_wide_as_their_widest_cell() {
        let text = all(&results())[0].text();
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "         HTTP/1.1 /s            CPU µs",
                "haproxy       20,000              50.0",
                "Conduit       30,200  32.0 (30.0–34.0)",
            ]
        );
    }

    #[test]
    fn a_target_is_told_with_ratio_and_verdict() {
        let text = targets(&results()).markdown();
        let row =
            "| CPU per HTTP/1.1 request | 32.0 µs | ≤ 0.85 × haproxy, is 0.64: met | ≤ 0.7 × haproxy, is 0.64: met |";
        assert!(text.contains(row), "{text}");
        let row =
            "| throughput, HTTP/1.1 | 30200 /s | ≥ 1.1 × haproxy, is 1.51: met | ≥ 1.35 × haproxy, is 1.51: met |";
        assert!(text.contains(row), "{text}");
    }

    #[test]
    fn exchanges_that_failed_are_told_by_peer_and_scenario() {
        let mut results = results();
        results.readings[1].values.insert(Metric::Errors, 2.0);
        results.readings[2].values.insert(Metric::Errors, 1.0);
        assert_eq!(failures(&results), ["Conduit, max-h1: 3 exchanges failed"]);
    }

    #[test]
    fn numbers_have_separators() {
        assert_eq!([0.4, 999.0, 1000.0, 1_234_567.0, -1000.0].map(whole), ["0", "999", "1,000", "1,234,567", "-1,000"]);
    }
}
