//! Apply objects, look at which facts changed.

use super::*;
use std::net::IpAddr;

fn apply(index: &Index, yaml: &str) {
    manifests::objects(yaml, "cluster.local").unwrap().into_iter().for_each(|object| index.apply(object));
}

fn service(selector: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: web}}\n\
         spec: {{clusterIPs: [{ip}], selector: {{app: {selector}}}, ports: [{{port: 80}}]}}\n"
    )
}

fn pod(name: &str, app: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {name}, labels: {{app: {app}}}}}\n\
         spec: {{containers: []}}\nstatus: {{podIP: {ip}}}\n"
    )
}

fn slice(endpoint: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{namespace: shop, name: web-1, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{endpoint}]\n"
    )
}

fn policy(service: &str, blocks: &str) -> String {
    format!(
        "apiVersion: conduit.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{namespace: shop, name: p}}\n\
         spec: {{targetRefs: [{{kind: Service, name: \"{service}\"}}], {blocks}}}\n"
    )
}

fn node(address: &str, heartbeat: u8) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: one}}\nspec: {{podCIDRs: [10.244.0.0/24]}}\n\
         status: {{addresses: [{{type: InternalIP, address: {address}}}], \
         conditions: [{{type: Ready, status: \"True\", lastHeartbeatTime: \"2026-01-01T00:00:0{heartbeat}Z\"}}]}}\n"
    )
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The facts that change when `yaml` comes after `before`.
fn changed(before: &[String], yaml: &str) -> Vec<Fact> {
    let index = Index::new("cluster.local");
    before.iter().for_each(|yaml| apply(&index, yaml));
    let changes = index.changes();
    apply(&index, yaml);
    let mut facts: Vec<_> = changes.take().into_iter().collect();
    facts.sort();
    facts
}

#[test]
fn each_change_names_what_it_changes_and_no_more() {
    let web = Fact::Service(name("web"));
    let endpoints = Fact::Endpoints(name("web"));
    let backed = "{addresses: [10.1.0.1], targetRef: {kind: Pod, name: a}}";
    let before = [service("web", "10.96.0.1"), pod("a", "web", "10.1.0.1"), slice(backed)];
    for (yaml, expected) in [
        (before[0].clone(), vec![]),
        (before[1].clone(), vec![]),
        (before[2].clone(), vec![]),
        (
            service("web", "10.96.0.2"),
            vec![Fact::Address(ip("10.96.0.1")), Fact::Address(ip("10.96.0.2")), web.clone()],
        ),
        (service("else", "10.96.0.1"), vec![Fact::Address(ip("10.96.0.1")), web.clone()]),
        (pod("b", "web", "10.1.0.2"), vec![Fact::Address(ip("10.1.0.2")), Fact::Pod(name("b"))]),
        (pod("a", "else", "10.1.0.1"), vec![Fact::Address(ip("10.1.0.1")), endpoints.clone(), Fact::Pod(name("a"))]),
        (slice(""), vec![endpoints.clone()]),
        (slice("{addresses: [192.0.2.1]}"), vec![web, endpoints]),
        (
            "apiVersion: conduit.io/v1alpha1\nkind: ServiceProfile\n\
             metadata: {namespace: else, name: web.shop.svc.cluster.local}\nspec: {}\n"
                .into(),
            vec![Fact::Service(name("web"))],
        ),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".into(), vec![Fact::Namespace("shop".into())]),
        (policy("web", "outbound: {tls: {mode: Prefer}}"), vec![Fact::Service(name("web"))]),
        (policy("web", "outbound: {tls: {mode: Require}}"), vec![Fact::Service(name("web")), Fact::RequiredTls]),
        // Clients of another Service of the same pods are told of it as well.
        (
            policy("web", "inbound: {mtls: {mode: STRICT}}"),
            vec![Fact::Service(name("web")), Fact::Namespace("shop".into())],
        ),
        // Who is meant cannot be read.
        (policy("", "inbound: {protocol: {type: HTTP1}}"), vec![Fact::Namespace("shop".into())]),
    ] {
        assert_eq!(changed(&before, &yaml), expected, "{yaml}");
    }
}

#[test]
fn a_selector_that_changes_concerns_the_pods_that_it_now_selects() {
    let before = [service("else", "10.96.0.1"), pod("a", "web", "10.1.0.1"), pod("b", "third", "10.1.0.2")];
    let facts = changed(&before, &service("web", "10.96.0.1"));
    assert!(facts.contains(&Fact::Pod(name("a"))) && !facts.contains(&Fact::Pod(name("b"))), "{facts:?}");
}

#[test]
fn services_that_select_a_pod_are_found_by_their_labels_oldest_first() {
    let index = Index::new("cluster.local");
    let dated = |service: String, name: &str, day: u8| {
        let metadata = format!("name: {name}, creationTimestamp: \"2026-01-0{day}T00:00:00Z\"");
        service.replace("name: web", &metadata)
    };
    apply(&index, &dated(service("web", "10.96.0.1"), "newer", 2));
    apply(&index, &dated(service("web", "10.96.0.2"), "older", 1));
    apply(&index, &dated(service("web, tier: x", "10.96.0.3"), "narrower", 1));
    apply(&index, &pod("a", "web", "10.1.0.1"));
    let view = index.view();
    let pod = view.pod_at(ip("10.1.0.1")).unwrap();
    let names: Vec<_> = view.services_selecting(pod).iter().map(|service| service.name.name.as_str()).collect();
    assert_eq!(names, ["older", "newer"]);
}

#[test]
fn a_reset_forgets_what_is_not_listed_and_says_only_what_changed() {
    let index = Index::new("cluster.local");
    apply(&index, &pod("a", "web", "10.1.0.1"));
    apply(&index, &pod("b", "web", "10.1.0.2"));
    let changes = index.changes();
    let listed = [pod("a", "web", "10.1.0.1"), pod("c", "web", "10.1.0.2")].join("---\n");
    index.reset(Kind::Pod, manifests::objects(&listed, "cluster.local").unwrap());
    let facts = changes.take();
    assert!(!facts.contains(&Fact::Pod(name("a"))) && facts.contains(&Fact::Pod(name("b"))), "{facts:?}");
    assert_eq!(index.view().pod_at(ip("10.1.0.2")).unwrap().name, name("c"), "the address found its new pod");
    assert!(index.view().pod(&name("b")).is_none());
}

#[test]
fn a_node_that_only_says_that_it_is_alive_changes_nothing() {
    let before = [node("192.0.2.1", 1)];
    assert_eq!(changed(&before, &node("192.0.2.1", 2)), []);
    assert_eq!(changed(&before, &node("192.0.2.2", 2)), [Fact::Node("one".into())]);
    let moved = node("192.0.2.1", 1).replace("10.244.0.0/24", "10.244.1.0/24");
    assert_eq!(changed(&before, &moved), [Fact::Node("one".into()), Fact::PodRanges]);
    assert!(changed(&[], &before[0]).contains(&Fact::PodRanges));
}

#[test]
fn the_last_policy_that_requires_tls_takes_the_requirement_with_it() {
    let index = Index::new("cluster.local");
    let required = |index: &Index| index.view().requires_tls_anywhere();
    let of =
        |name: &str| policy("web", "outbound: {tls: {mode: Require}}").replace("name: p}", &format!("name: {name}}}"));
    apply(&index, &of("p"));
    let changes = index.changes();
    apply(&index, &of("q"));
    index.delete(Key { kind: Kind::TrafficPolicy, name: name("p") });
    assert!(required(&index) && !changes.take().contains(&Fact::RequiredTls));
    index.delete(Key { kind: Kind::TrafficPolicy, name: name("q") });
    assert!(!required(&index) && changes.take().contains(&Fact::RequiredTls));
}

#[test]
fn a_trust_bundle_that_comes_again_as_it_was_changes_nothing() {
    let index = Index::new("cluster.local");
    let changes = index.changes();
    let (old, new) = (Bytes::from_static(b"old"), Bytes::from_static(b"new"));
    for (roots, expected) in [
        (vec![old.clone()], vec![Fact::TrustBundle]),
        (vec![old.clone()], vec![]),
        (vec![new.clone(), old.clone()], vec![Fact::TrustBundle]),
        // The order says which of them signs.
        (vec![old, new], vec![Fact::TrustBundle]),
    ] {
        index.set_trust_bundle(roots.clone());
        assert_eq!(changes.take().into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(index.view().trust_bundle(), roots);
    }
}

#[tokio::test]
async fn the_index_is_synced_once_every_kind_has_been_listed() {
    let index = Index::new("cluster.local");
    let (last, others) = Kind::ALL.split_last().unwrap();
    others.iter().for_each(|kind| index.reset(*kind, Vec::new()));
    assert!(!index.synced());
    index.reset(*last, Vec::new());
    index.wait_synced().await;
    assert!(index.synced());
}

#[test]
fn a_namespace_keeps_its_labels_and_conduits_own_annotations() {
    let index = Index::new("cluster.local");
    apply(
        &index,
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {conduit.io/inject: enabled}\n  \
         annotations: {config.conduit.io/opaque-ports: \"80\", notconduit.io/x: other, kubectl.kubernetes.io/z: big}\n",
    );
    let shop = index.namespace("shop").unwrap();
    assert_eq!(shop.labels["conduit.io/inject"], "enabled");
    assert_eq!(shop.annotations.keys().collect::<Vec<_>>(), ["config.conduit.io/opaque-ports"]);
    assert!(shop.opaque_ports.unwrap().unwrap().contains(80));
    assert!(index.namespace("else").is_none());
}
