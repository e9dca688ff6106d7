//! The tables of the shop's front, as server and as client.

use super::*;
use crate::render::{self, Paint};
use crate::stat::tests::{assert_golden, shop};

fn rows(resource: &str, view: View) -> Vec<Row> {
    let (members, changes) = shop();
    table(&resource.parse().unwrap(), &view, &members, &changes)
}

fn client(service: &str) -> View {
    View::Client(format!("svc/{service}").parse().unwrap())
}

#[test]
fn the_table_of_what_comes_in() {
    assert_golden("routes.txt", &render::routes(&rows("deploy/front", View::Server), Paint::Plain, false));
}

#[test]
fn the_table_of_what_goes_to_another_service() {
    assert_golden("routes-to.txt", &render::routes(&rows("deploy/front", client("catalog")), Paint::Plain, false));
}

#[test]
fn the_numbers_of_a_route_are_of_its_window() {
    let rows = rows("deploy/front", View::Server);
    let routes: Vec<_> = rows.iter().map(|row| row.route.as_str()).collect();
    assert_eq!(routes, ["checkout", "home", "[DEFAULT]"], "the default route is the last");
    // 40 and 10 of the one that ran on.
    assert_eq!((rows[0].golden.success_rate, rows[0].golden.rps), (Some(0.8), Some(10.0)));
    // 40 of the one, 50 of the other.
    assert_eq!((rows[1].golden.success_rate, rows[1].golden.rps), (Some(1.0), Some(18.0)));
}

#[test]
fn only_the_service_that_is_asked_for_is_shown() {
    let services = |view| rows("deploy/front", view).into_iter().map(|row| row.service).collect::<Vec<_>>();
    assert_eq!(services(client("recommend")).len(), 1);
    assert_eq!(services(client("recommend.shop")).len(), 1);
    assert!(services(client("recommend.other")).is_empty());
    assert!(services(client("cata")).is_empty());
}

#[test]
fn several_workloads_are_told_apart() {
    let text = render::routes(&rows("pod", View::Server), Paint::Plain, false);
    assert!(text.starts_with("WORKLOAD     ROUTE"), "{text}");
}
