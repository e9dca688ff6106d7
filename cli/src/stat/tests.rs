//! The tables of a small shop: two fronts, of which one restarted within the window, an idle cart, an unmeshed batch.
//!
//! Run with `UPDATE_GOLDEN=1` to write the tables anew.

use std::fs;
use std::path::Path;

use super::*;
use crate::change::METRICS;
use crate::exposition::Exposition;
use crate::render::{self, Paint};
use crate::workload::Workload;

/// Compares with `testdata/<name>`, or writes it.
pub(crate) fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "{name}");
}

fn scrape(name: &str) -> Exposition {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata").join(name);
    Exposition::parse(&fs::read_to_string(path).unwrap(), METRICS).unwrap()
}

fn member(kind: Kind, name: &str, pod: &str, meshed: bool) -> Member {
    let workload = Workload { kind, name: name.into() };
    let service_account = name.into();
    Member { namespace: "shop".into(), pod: pod.into(), workload, service_account, meshed, running: true }
}

/// The pods of the shop and what their proxies counted in five seconds. The proxy of `front-3` did not answer.
pub(crate) fn shop() -> (Vec<Member>, Changes) {
    let members = vec![
        member(Kind::Deployment, "front", "front-1", true),
        member(Kind::Deployment, "front", "front-2", true),
        member(Kind::Deployment, "front", "front-3", true),
        member(Kind::StatefulSet, "cart", "cart-0", true),
        member(Kind::Job, "batch", "batch-x", false),
    ];
    let change = |pod: &str, before, after| {
        (("shop".to_owned(), pod.to_owned()), Change::new(scrape(before), scrape(after), 5.0))
    };
    let changes = Changes::from([
        change("front-1", "front-1.before.txt", "front-1.after.txt"),
        change("front-2", "front-2.before.txt", "front-2.after.txt"),
        change("cart-0", "cart-0.txt", "cart-0.txt"),
    ]);
    (members, changes)
}

fn rows(resource: &Resource) -> Vec<Row> {
    let (members, changes) = shop();
    table(resource, &members, &changes)
}

#[test]
fn the_table_of_all_workloads() {
    assert_golden("stat.txt", &render::stat(&rows(&Resource::default()), Paint::Plain, false));
}

#[test]
fn the_wide_table_with_namespaces() {
    assert_golden("stat-wide.txt", &render::stat_wide(&rows(&Resource::default()), Paint::Plain, true));
}

#[test]
fn the_numbers_are_those_of_the_window_over_all_answering_pods() {
    let row = rows(&"deploy/front".parse().unwrap()).remove(0);
    assert_eq!((row.meshed, row.pods), (3, 3));
    // 90 and 10 of the one that ran on, 50 of the one that restarted.
    assert_eq!(row.golden.success_rate, Some(140.0 / 150.0));
    assert_eq!(row.golden.rps, Some(30.0));
    // 100 of 150 are in the bucket from 1 to 2 ms.
    assert_eq!(row.golden.latency_ms_p50, Some(1.75));
    assert_eq!(row.tcp_connections, Some(6));
    assert_eq!(row.read_bytes_per_second, Some(11_000.0));
    assert_eq!(row.proxy_rss_bytes, Some(8_300_000));
}

#[test]
fn an_idle_workload_has_a_rate_of_zero_and_an_unmeshed_one_has_none() {
    let idle = rows(&"sts".parse().unwrap()).remove(0);
    assert_eq!(idle.golden, Golden { rps: Some(0.0), ..Golden::default() });
    let unmeshed = rows(&"job/batch".parse().unwrap()).remove(0);
    assert_eq!((unmeshed.meshed, unmeshed.pods, unmeshed.golden.rps, unmeshed.tcp_connections), (0, 1, None, None));
}

#[test]
fn pods_and_namespaces_are_rows_when_asked_for() {
    let names = |resource: &str| rows(&resource.parse().unwrap()).into_iter().map(|row| row.name).collect::<Vec<_>>();
    assert_eq!(names("pod"), ["batch-x", "cart-0", "front-1", "front-2", "front-3"]);
    assert_eq!(names("ns"), ["shop"]);
    assert_eq!(names("pod/front-2"), ["front-2"]);
    assert!(names("deploy/other").is_empty());
}

#[test]
fn json_has_flat_rows_with_null_for_what_is_not_known() {
    let row = serde_json::to_value(&rows(&"job/batch".parse().unwrap())[0]).unwrap();
    assert_eq!(row["kind"], "job");
    assert!(row["success_rate"].is_null() && row["rps"].is_null());
    assert_eq!((row["meshed"].as_u64(), row["pods"].as_u64()), (Some(0), Some(1)));
}
