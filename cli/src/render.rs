//! Rows as tables for people: aligned, rounded, `-` for what is not known. Pure; it must not know where rows come from.

use conduit_model::spiffe::SpiffeId;
use jiff::Timestamp;

use crate::golden::Golden;
use crate::identity::{self, Identity};
use crate::{edges, routes, stat};

/// Whether the numbers that call for attention are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Colour,
}

/// A column: its head, and on which side its cells stand.
struct Column {
    head: &'static str,
    side: Side,
}

#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

struct Cell {
    text: String,
    /// An ANSI colour number.
    colour: Option<u8>,
}

const GOLDEN: [Column; 5] =
    [right("SUCCESS"), right("RPS"), right("LATENCY_P50"), right("LATENCY_P95"), right("LATENCY_P99")];

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

/// Below this success rate a number is red; below the next, yellow.
const BAD: f64 = 0.95;
const DUBIOUS: f64 = 0.99;

/// The table of `conduit stat`.
pub(crate) fn stat(rows: &[stat::Row], paint: Paint, namespaces: bool) -> String {
    table(namespace_column(namespaces).chain(stat_columns()).collect(), paint, rows, |row| {
        namespace_cell(namespaces, &row.namespace).chain(stat_cells(row)).collect()
    })
}

/// The table of `conduit stat -o wide`.
pub(crate) fn stat_wide(rows: &[stat::Row], paint: Paint, namespaces: bool) -> String {
    let wide = [right("READ"), right("WRITTEN"), right("PROXY_RSS")];
    table(namespace_column(namespaces).chain(stat_columns()).chain(wide).collect(), paint, rows, |row| {
        let wide = [
            plain(row.read_bytes_per_second.map(|rate| bytes(rate) + "/s")),
            plain(row.write_bytes_per_second.map(|rate| bytes(rate) + "/s")),
            plain(row.proxy_rss_bytes.map(|rss| bytes(rss as f64))),
        ];
        namespace_cell(namespaces, &row.namespace).chain(stat_cells(row)).chain(wide).collect()
    })
}

/// The table of `conduit routes`; which workload a row is of is said only where there are several.
pub(crate) fn routes(rows: &[routes::Row], paint: Paint, namespaces: bool) -> String {
    let several = rows.windows(2).any(|pair| pair[0].workload != pair[1].workload);
    let workload_column = several.then_some(left("WORKLOAD")).into_iter();
    let named = [left("ROUTE"), left("SERVICE")];
    let columns = namespace_column(namespaces).chain(workload_column).chain(named).chain(GOLDEN).collect();
    table(columns, paint, rows, |row| {
        let workload = several.then(|| plain(Some(row.workload.clone())));
        let named = [plain(Some(row.route.clone())), plain(Some(row.service.clone()))];
        namespace_cell(namespaces, &row.namespace).chain(workload).chain(named).chain(golden(&row.golden)).collect()
    })
}

/// The table of `conduit edges`; identities as `<service account>.<namespace>`.
pub(crate) fn edges(rows: &[edges::Row], paint: Paint) -> String {
    table(edge_columns().collect(), paint, rows, |row| edge_cells(row, short).collect())
}

/// The table of `conduit edges -o wide`.
pub(crate) fn edges_wide(rows: &[edges::Row], paint: Paint) -> String {
    let wide = [right("OPENED"), right("OPEN"), right("REQUESTS")];
    table(edge_columns().chain(wide).collect(), paint, rows, |row| {
        let counts = [row.connections, row.open_connections, row.requests];
        edge_cells(row, str::to_owned).chain(counts.map(|count| plain(Some(count.to_string())))).collect()
    })
}

fn edge_columns() -> impl Iterator<Item = Column> {
    ["SRC", "DST", "SRC_NS", "DST_NS", "CLIENT_ID", "SERVER_ID", "SECURED"].into_iter().map(left)
}

fn edge_cells(row: &edges::Row, shown: impl Fn(&str) -> String) -> impl Iterator<Item = Cell> {
    let port = row.port.as_ref().map_or_else(String::new, |port| format!(":{port}"));
    let identity = |identity: &Option<String>| plain(identity.as_deref().map(&shown));
    [
        plain(Some(row.src.clone())),
        plain(Some(row.dst.clone() + &port)),
        plain(row.src_namespace.clone()),
        plain(row.dst_namespace.clone()),
        identity(&row.client_id),
        identity(&row.server_id),
        match &row.reason {
            None => Cell { text: "√".into(), colour: Some(GREEN) },
            Some(reason) => Cell { text: reason.clone(), colour: Some(YELLOW) },
        },
    ]
    .into_iter()
}

/// The table of `conduit identity` where it is about several pods.
pub(crate) fn identities(rows: &[Identity], paint: Paint, namespaces: bool, now: Timestamp) -> String {
    let columns = ["POD", "IDENTITY", "KEY", "VALID", "RENEWAL", "ISSUER", "TRUST_ROOT", "LAST_ERROR"];
    let columns = namespace_column(namespaces).chain(columns.into_iter().map(left)).collect();
    table(columns, paint, rows, |row| {
        let own = row.certificate();
        let expired = own.is_some_and(|own| !own.left(now).is_positive());
        let cells = [
            plain(Some(row.pod.clone())),
            plain(row.identity.clone()),
            plain(own.map(|own| own.key.clone())),
            Cell { colour: expired.then_some(RED), ..plain(own.map(|own| identity::left(own, now))) },
            plain(own.map(|own| identity::renewal(own, now))),
            plain(own.map(|own| own.issuer.clone())),
            plain(row.trust_roots.first().map(|root| root.subject.clone())),
            Cell { colour: Some(YELLOW), ..plain(row.last_renewal_error.clone()) },
        ];
        namespace_cell(namespaces, &row.namespace).chain(cells).collect()
    })
}

/// An identity without what is the same for all of a mesh; what is none stays as it is.
pub(crate) fn short(identity: &str) -> String {
    let parsed = identity.parse::<SpiffeId>();
    parsed.map_or_else(|_| identity.to_owned(), |id| format!("{}.{}", id.service_account(), id.namespace()))
}

fn stat_columns() -> impl Iterator<Item = Column> {
    [left("NAME"), right("MESHED")].into_iter().chain(GOLDEN).chain([right("TCP_CONN")])
}

fn stat_cells(row: &stat::Row) -> impl Iterator<Item = Cell> {
    let name = plain(Some(format!("{}/{}", row.kind.short(), row.name)));
    let meshed = plain(Some(format!("{}/{}", row.meshed, row.pods)));
    let connections = plain(row.tcp_connections.map(|connections| connections.to_string()));
    [name, meshed].into_iter().chain(golden(&row.golden)).chain([connections])
}

fn golden(golden: &Golden) -> [Cell; 5] {
    let success = Cell {
        text: golden.success_rate.map_or_else(|| "-".into(), percent),
        colour: golden.success_rate.map(|rate| match rate {
            rate if rate < BAD => RED,
            rate if rate < DUBIOUS => YELLOW,
            _ => GREEN,
        }),
    };
    let latency = |value: Option<f64>| plain(value.map(milliseconds));
    [
        success,
        plain(golden.rps.map(|rate| format!("{rate:.1}"))),
        latency(golden.latency_ms_p50),
        latency(golden.latency_ms_p95),
        latency(golden.latency_ms_p99),
    ]
}

fn namespace_column(shown: bool) -> impl Iterator<Item = Column> {
    shown.then_some(left("NAMESPACE")).into_iter()
}

fn namespace_cell(shown: bool, namespace: &str) -> impl Iterator<Item = Cell> {
    shown.then(|| plain(Some(namespace.to_owned()))).into_iter()
}

/// A part as a percentage that never rounds a failure away: 100 % means all.
fn percent(rate: f64) -> String {
    let hundredths = rate * 10_000.0;
    let rounded = if rate < 1.0 { hundredths.round().min(9_999.0) } else { 10_000.0 };
    format!("{:.2}%", rounded / 100.0)
}

fn milliseconds(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.1}ms"),
        value if value < 10_000.0 => format!("{value:.0}ms"),
        value => format!("{:.1}s", value / 1000.0),
    }
}

/// In powers of a thousand.
fn bytes(value: f64) -> String {
    match value {
        value if value < 1e3 => format!("{value:.0}B"),
        value if value < 1e6 => format!("{:.1}kB", value / 1e3),
        value if value < 1e9 => format!("{:.1}MB", value / 1e6),
        value => format!("{:.1}GB", value / 1e9),
    }
}

fn table<R>(columns: Vec<Column>, paint: Paint, rows: &[R], cells: impl Fn(&R) -> Vec<Cell>) -> String {
    let lines: Vec<Vec<Cell>> = rows.iter().map(cells).collect();
    let width = |index: usize, column: &Column| {
        let cells = lines.iter().map(|line| line[index].text.chars().count());
        cells.chain([column.head.len()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = columns.iter().enumerate().map(|(index, column)| width(index, column)).collect();
    let head = columns.iter().map(|column| plain(Some(column.head.to_owned()))).collect();
    std::iter::once(head).chain(lines).map(|line| one_line(&columns, &widths, paint, line)).collect()
}

fn one_line(columns: &[Column], widths: &[usize], paint: Paint, cells: Vec<Cell>) -> String {
    let aligned = cells.into_iter().zip(columns).zip(widths).map(|((cell, column), width)| {
        let gap = " ".repeat(width.saturating_sub(cell.text.chars().count()));
        let text = match (paint, cell.colour) {
            (Paint::Colour, Some(colour)) => format!("\x1b[{colour}m{}\x1b[0m", cell.text),
            (Paint::Colour, None) | (Paint::Plain, _) => cell.text,
        };
        match column.side {
            Side::Left => text + &gap,
            Side::Right => gap + &text,
        }
    });
    aligned.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
}

const fn left(head: &'static str) -> Column {
    Column { head, side: Side::Left }
}

const fn right(head: &'static str) -> Column {
    Column { head, side: Side::Right }
}

fn plain(text: Option<String>) -> Cell {
    Cell { text: text.unwrap_or_else(|| "-".into()), colour: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_people_read_them() {
        assert_eq!(
            [0.25, 9.96, 43.4, 9_999.0, 12_345.0].map(milliseconds),
            ["0.2ms", "10.0ms", "43ms", "9999ms", "12.3s"]
        );
        assert_eq!([0.0, 999.0, 8_300_000.0, 2.5e9].map(bytes), ["0B", "999B", "8.3MB", "2.5GB"]);
    }

    #[test]
    fn one_failure_among_many_does_not_round_to_all() {
        assert_eq!([1.0, 0.999_999, 0.5, 0.0].map(percent), ["100.00%", "99.99%", "50.00%", "0.00%"]);
    }

    #[test]
    fn colour_does_not_change_the_alignment() {
        let success = |rate| Golden { success_rate: Some(rate), ..Golden::default() };
        let row = |name: &str, rate| routes::Row {
            namespace: "shop".into(),
            workload: "deploy/web".into(),
            service: "web.shop.svc.cluster.local:80".into(),
            route: name.into(),
            golden: success(rate),
        };
        let rows = [row("home", 1.0), row("checkout", 0.9)];
        let coloured = routes(&rows, Paint::Colour, false);
        assert!(
            coloured.contains("\x1b[32m100.00%\x1b[0m") && coloured.contains(" \x1b[31m90.00%\x1b[0m"),
            "{coloured:?}"
        );
        let stripped = ["\x1b[31m", "\x1b[32m", "\x1b[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(stripped, routes(&rows, Paint::Plain, false));
    }

    #[test]
    fn namespaces_are_a_column_only_when_asked_for() {
        assert!(stat(&[], Paint::Plain, true).starts_with("NAMESPACE   NAME"));
        assert!(stat(&[], Paint::Plain, false).starts_with("NAME   MESHED"));
    }
}
