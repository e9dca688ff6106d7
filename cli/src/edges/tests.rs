//! The edges of a small shop: a front that calls meshed and other workloads, a cart, a batch whose proxy did not answer.

use super::*;
use crate::change::METRICS;
use crate::exposition::Exposition;
use crate::render::{self, Paint};
use crate::stat::tests::assert_golden;

fn change(text: &str) -> Change {
    Change::since_start(Exposition::parse(text, METRICS).unwrap())
}

fn member(kind: Kind, name: &str, pod: &str) -> Member {
    Member {
        namespace: "shop".into(),
        pod: pod.into(),
        workload: Workload { kind, name: name.into() },
        service_account: name.into(),
        meshed: true,
        running: true,
    }
}

fn key(pod: &str) -> (String, String) {
    ("shop".into(), pod.into())
}

fn rows(resource: &str) -> Vec<Row> {
    let members = [
        member(Kind::Deployment, "front", "front-1"),
        member(Kind::StatefulSet, "cart", "cart-0"),
        member(Kind::Job, "batch", "batch-x"),
    ];
    let changes = Changes::from([
        (key("front-1"), change(include_str!("../testdata/edges-front-1.txt"))),
        (key("cart-0"), change(include_str!("../testdata/edges-cart-0.txt"))),
    ]);
    table(&if resource.is_empty() { Resource::default() } else { resource.parse().unwrap() }, &members, &changes)
}

fn ends(resource: &str) -> Vec<(String, String)> {
    rows(resource).into_iter().map(|row| (row.src, row.dst)).collect()
}

#[test]
fn the_table_of_all_edges() {
    assert_golden("edges.txt", &render::edges(&rows(""), Paint::Plain));
}

#[test]
fn the_wide_table_of_all_edges() {
    assert_golden("edges-wide.txt", &render::edges_wide(&rows(""), Paint::Plain));
}

#[test]
fn an_edge_that_is_secured_in_part_is_two_rows() {
    let catalog: Vec<_> = rows("").into_iter().filter(|row| row.dst == "deploy/catalog").collect();
    let said: Vec<_> = catalog.iter().map(|row| (row.secured, row.reason.as_deref(), row.connections)).collect();
    assert_eq!(said, [(true, None, 4), (false, Some("disabled by policy"), 1)]);
    assert_eq!(catalog[0].client_id.as_deref(), Some("spiffe://cluster.local/ns/shop/sa/front"));
    assert_eq!(catalog[1].client_id, None);
}

#[test]
fn a_server_tells_an_edge_only_where_the_clients_proxy_did_not() {
    let to_cart: Vec<_> =
        rows("sts/cart").into_iter().filter(|row| row.secured).map(|row| (row.src, row.port)).collect();
    assert_eq!(to_cart, [("deploy/front".into(), None), ("job/batch".into(), Some("6379".into()))]);
}

#[test]
fn a_resource_selects_edges_at_either_end() {
    assert_eq!(ends("deploy/catalog"), vec![("deploy/front".to_owned(), "deploy/catalog".to_owned()); 2]);
    assert!(ends("job").iter().all(|(src, _)| src == "job/batch"));
    assert!(ends("deploy/other").is_empty());
    assert!(ends("ns").contains(&("ns/ingress".into(), "ns/shop".into())));
}

#[test]
fn a_pod_is_named_by_its_own_proxy() {
    let expected = [("deploy/front".to_owned(), "po/cart-0".to_owned()), ("job/batch".into(), "po/cart-0".into())];
    let told = ends("pod/cart-0");
    assert!(expected.iter().all(|edge| told.contains(edge)), "{told:?}");
}

#[test]
fn who_shows_no_identity_that_can_be_read_is_not_secured() {
    let forged: Vec<_> = rows("sts/cart").into_iter().filter(|row| !row.secured && row.connections == 1).collect();
    let reasons: Vec<_> = forged.iter().map(|row| (row.src.as_str(), row.reason.as_deref())).collect();
    assert_eq!(reasons, [(OUTSIDE, Some("not said by the proxy")), (OUTSIDE, Some("the application's own TLS"))]);
}

#[test]
fn within_a_window_only_what_moved_or_is_open_is_shown() {
    let labels = |dst: &str| {
        format!(
            "direction=\"outbound\",peer=\"dst\",dst_namespace=\"shop\",dst_deployment=\"{dst}\",tls=\"no_identity\""
        )
    };
    let text = |opened| {
        format!(
            "tcp_open_total{{{}}} 5\ntcp_open_total{{{}}} {opened}\ntcp_open_connections{{{}}} 1\n",
            labels("idle"),
            labels("busy"),
            labels("open")
        )
    };
    let parse = |text: String| Exposition::parse(&text, METRICS).unwrap();
    let changes = Changes::from([(key("front-1"), Change::new(parse(text(1)), parse(text(3)), 5.0))]);
    let rows = table(&Resource::default(), &[member(Kind::Deployment, "front", "front-1")], &changes);
    let shown: Vec<_> = rows.iter().map(|row| (row.dst.as_str(), row.connections)).collect();
    assert_eq!(shown, [("deploy/busy", 2), ("deploy/open", 0)]);
}
