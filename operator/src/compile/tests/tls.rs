//! Whom policies let pods serve, when they want clients to encrypt, and what is closed where a policy cannot be read.

use super::*;

fn tls_policy(metadata: &str, target: &str, mode: &str) -> String {
    policy(metadata, target, &format!("outbound: {{tls: {{mode: {mode}}}}}"))
}

fn mtls_policy(name: &str, target: &str, mode: &str) -> String {
    policy(&format!("namespace: shop, name: {name}"), target, &format!("inbound: {{mtls: {{mode: {mode}}}}}"))
}

/// A Service that kube-proxy does with what the API server does with its own: it has endpoints that are no pods.
const FOREIGN: &str = "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: api}\n\
                       spec: {clusterIPs: [10.96.0.2], ports: [{port: 443}]}\n---\n";

#[test]
fn whether_clients_encrypt_is_said_by_port_service_client_and_namespace() {
    use OutboundTlsMode::{Disable, Prefer, Require};
    let port = tls_policy("namespace: shop, name: port", "{kind: Service, name: Web, sectionName: http}", "Disable");
    let service = tls_policy("namespace: shop, name: service", "{kind: Service, name: Web}", "Prefer");
    let client = tls_policy("namespace: client, name: client", "{kind: Namespace}", "Require");
    let namespace = tls_policy("namespace: shop, name: ns", "{kind: Namespace}", "Disable");
    let foreign = tls_policy("namespace: shop, name: foreign", "{kind: Service, name: api}", "Require");
    for (policies, at, mode, by) in [
        (vec![&port, &service, &client, &namespace], "10.96.0.1:80", Disable, Some("shop/port")),
        (vec![&port, &service, &client, &namespace], "10.96.0.1:3306", Prefer, Some("shop/service")),
        (vec![&client, &namespace], "10.96.0.1:80", Require, Some("client/client")),
        (vec![&namespace], "10.96.0.1:80", Disable, Some("shop/ns")),
        (vec![], "10.96.0.1:80", Prefer, None),
        // What a Service's policy says of it holds for its pods' own addresses, by which a headless one is called.
        (vec![&port, &client], "10.1.0.1:8080", Disable, Some("shop/port")),
        (vec![&service, &client], "10.1.0.1:7000", Prefer, Some("shop/service")),
        (vec![&service, &client], "10.1.0.1:9999", Require, Some("client/client")),
        // Nobody knows who answers there, so that nobody can be authenticated: policies on namespaces do not mean it.
        (vec![&client, &namespace], "10.96.0.2:443", Prefer, None),
        (vec![&client, &foreign], "10.96.0.2:443", Require, Some("shop/foreign")),
        // No Service and no pod is there, nor could one be a target.
        (vec![&client], "192.0.2.1:443", Prefer, None),
    ] {
        let yaml = policies.iter().map(|policy| policy.as_str()).collect::<String>();
        let got = outbound_of(&shop(&format!("{FOREIGN}{yaml}")), at).tls;
        let source = got.source.map(|source| source.to_string());
        assert_eq!((got.mode, source), (mode, by.map(|by| format!("trafficpolicy/{by}"))), "{at} {policies:?}");
    }
}

#[test]
fn blocks_are_taken_each_from_the_policy_that_has_the_say_on_it() {
    let both = policy(
        "namespace: shop, name: both",
        "{kind: Namespace}",
        "outbound: {tls: {mode: Require}, protocol: {type: Opaque}}",
    );
    let protocol = outbound_policy("namespace: shop, name: protocol", "{kind: Service, name: Web}", "GRPC");
    let tls = tls_policy("namespace: shop, name: tls", "{kind: Service, name: Web}", "Prefer");
    let compiled = |policies: &[&str]| outbound(&shop(&policies.concat()).view(), "client", address("10.96.0.1:80"));
    let names = |sources: &BTreeSet<Source>| sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>();
    let one = compiled(&[&both, &protocol]);
    let config = one.config.unwrap();
    assert_eq!((config.protocol, config.tls.mode), (Protocol::Grpc, OutboundTlsMode::Require));
    assert_eq!(
        (names(&one.sources), names(&one.overridden)),
        (vec!["both".into(), "protocol".into()], vec!["both".into()])
    );
    let all = compiled(&[&both, &protocol, &tls]);
    assert_eq!(names(&all.sources), ["protocol", "tls"], "nothing of the widest is left");
}

#[test]
fn whom_a_pod_serves_is_said_by_port_service_pods_and_namespace() {
    use InboundMtlsMode::{Disable, Permissive, Strict};
    let port = mtls_policy("port", "{kind: Service, name: Web, sectionName: http}", "DISABLE");
    let service = mtls_policy("service", "{kind: Service, name: Web}", "PERMISSIVE");
    let pods = mtls_policy("pods", "{kind: Pod, selector: {matchLabels: {app: web}}}", "STRICT");
    let others = mtls_policy("others", "{kind: Pod, selector: {matchLabels: {app: else}}}", "STRICT");
    let namespace = mtls_policy("ns", "{kind: Namespace}", "STRICT");
    // At the ports http and db, and where nothing is known.
    for (policies, expected, by) in [
        (
            vec![&port, &service, &pods, &namespace],
            [Disable, Permissive, Strict],
            [Some("port"), Some("service"), Some("pods")],
        ),
        (vec![&port, &namespace], [Disable, Strict, Strict], [Some("port"), Some("ns"), Some("ns")]),
        (vec![&pods, &namespace], [Strict; 3], [Some("pods"); 3]),
        (vec![&others], [Permissive; 3], [None; 3]),
    ] {
        let index = shop(&policies.iter().map(|policy| policy.as_str()).collect::<String>());
        let config = inbound_of(&index.view()).config.unwrap();
        let ports = [8080, 7000].map(|port| config.port(port).unwrap().mtls.clone());
        let [http, db] = ports;
        let got = [http, db, config.mtls];
        assert_eq!([0, 1, 2].map(|i| got[i].mode), expected, "{policies:?}");
        let names = [0, 1, 2].map(|i| got[i].source.as_ref().map(|source| source.name.as_str()));
        assert_eq!(names, by, "{policies:?}");
    }
}

#[test]
fn clients_are_told_of_endpoints_that_are_to_get_plaintext() {
    let index = shop(&mtls_policy("port", "{kind: Service, name: Web, sectionName: http}", "DISABLE"));
    let told = |index: &Index, at: &str| {
        let compiled = endpoints(&index.view(), address(at));
        let proxies: Vec<_> = compiled.config.unwrap().unwrap().into_values().map(|endpoint| endpoint.proxy).collect();
        (proxies, compiled.sources.len())
    };
    assert_eq!(told(&index, "10.96.0.1:80"), (vec![EndpointProxy::Plaintext], 1));
    // Another Service that leads to the same port, and the pod's own address.
    let other = "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: other}\n\
                 spec: {clusterIPs: [10.96.0.3], selector: {app: web}, ports: [{name: x, port: 80, targetPort: 8080}]}\n---\n\
                 apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {namespace: shop, name: other-1, labels: {kubernetes.io/service-name: other}}\n\
                 addressType: IPv4\nports: [{name: x, port: 8080}]\n\
                 endpoints: [{addresses: [10.1.0.1], targetRef: {kind: Pod, name: web-1}}]\n";
    objects(other, "cluster.local").unwrap().into_iter().for_each(|object| index.apply(object));
    assert_eq!(told(&index, "10.96.0.3:80"), (vec![EndpointProxy::Plaintext], 1));
    let facts = endpoints(&index.view(), address("10.96.0.3:80")).facts;
    assert!(facts.contains(&Fact::Service(crate::index::ObjectName::new("shop", "Web"))), "{facts:?}");
    let strict = shop(&mtls_policy("ns", "{kind: Namespace}", "STRICT"));
    assert_eq!(told(&strict, "10.96.0.1:80").1, 0, "whom else a pod serves is not its clients' business");
}

#[test]
fn what_cannot_be_read_is_closed_where_it_secures_something_and_passed_over_where_not() {
    let bad = |target: &str, blocks: &str| {
        policy("namespace: shop, name: bad", target, &format!("{blocks}, telemetry: {{tracing: 7}}"))
    };
    let wide = policy(
        "namespace: shop, name: wide",
        "{kind: Namespace}",
        "outbound: {tls: {mode: Disable}, protocol: {type: HTTP2}}, \
         inbound: {mtls: {mode: DISABLE}, protocol: {type: HTTP2}}",
    );
    let web = "{kind: Service, name: Web}";
    // What clients of port 80 are told to do, what the pod's port 8080 takes, and its other ports.
    let (open, closed) = (
        (OutboundTlsMode::Disable, InboundMtlsMode::Disable, InboundMtlsMode::Disable),
        (OutboundTlsMode::Require, InboundMtlsMode::Strict, InboundMtlsMode::Strict),
    );
    for (bad, told, invalid) in [
        (bad(web, "outbound: {tls: {mode: Disable}}"), (closed.0, open.1, open.2), [true, false]),
        (bad(web, "inbound: {mtls: {mode: DISABLE}}"), (open.0, closed.1, open.2), [false, true]),
        (bad(web, "outbound: {protocol: {type: GRPC}}"), open, [true, false]),
        (bad(web, "outbound: 7, inbound: 7"), (closed.0, closed.1, open.2), [true, true]),
        // It is not known who is meant, but somebody in the namespace is.
        (bad("{kind: Cluster}", "inbound: {mtls: {mode: STRICT}}"), (open.0, closed.1, closed.2), [false, true]),
        (bad("7", "outbound: {tls: {mode: Require}}"), (closed.0, open.1, open.2), [true, false]),
        // A policy that says more of the port than the one that cannot be read.
        (
            bad("{kind: Namespace}", "outbound: {tls: {mode: Require}}")
                + &tls_policy("namespace: shop, name: near", web, "Disable"),
            open,
            [false, false],
        ),
    ] {
        // Of two on one level the older wins: what is not dated is.
        let index = shop(&format!(
            "{}{bad}",
            wide.replace("name: wide", "name: wide, creationTimestamp: \"2026-01-01T00:00:00Z\"")
        ));
        let view = index.view();
        let outbound = outbound(&view, "client", address("10.96.0.1:80")).config;
        let inbound = inbound_of(&view).config;
        assert_eq!([outbound.is_err(), inbound.is_err()], invalid, "{bad}");
        let outbound = outbound.unwrap_or_else(|invalid| invalid.meanwhile);
        let inbound = inbound.unwrap_or_else(|invalid| invalid.meanwhile);
        let port = inbound.port(8080).unwrap();
        assert_eq!((outbound.tls.mode, port.mtls.mode, inbound.mtls.mode), told, "{bad}");
        assert_eq!((outbound.protocol, port.protocol), (Protocol::Http2, Protocol::Http2), "{bad}");
        assert_eq!((reason(&outbound), port.services.len()), (None, 1), "what the other objects say is there: {bad}");
    }
}

#[test]
fn a_policy_that_may_be_about_anything_is_passed_over_for_none_that_is_narrow_or_older() {
    let made = "creationTimestamp: \"2026-02-01T00:00:00Z\"";
    let narrow = policy(
        "namespace: shop, name: narrow",
        "{kind: Service, name: Web, sectionName: http}",
        "outbound: {tls: {mode: Disable}}, inbound: {mtls: {mode: DISABLE}}",
    );
    for target in ["{kind: Cluster}", "7"] {
        let bad = policy(
            &format!("namespace: shop, name: bad, {made}"),
            target,
            "outbound: {tls: {mode: Require}}, inbound: {mtls: {mode: STRICT}}",
        );
        let index = shop(&format!("{narrow}{bad}"));
        let outbound = outbound(&index.view(), "client", address("10.96.0.1:80")).config.unwrap_err().meanwhile;
        let inbound = inbound_of(&index.view()).config.unwrap_err().meanwhile;
        let port = inbound.port(8080).unwrap();
        assert_eq!(
            (outbound.tls.mode, port.mtls.mode),
            (OutboundTlsMode::Require, InboundMtlsMode::Strict),
            "{target}"
        );
        let told = endpoints(&index.view(), address("10.96.0.1:80")).config.unwrap().unwrap().into_values();
        assert_eq!(told.map(|endpoint| endpoint.proxy).collect::<Vec<_>>(), [EndpointProxy::Mtls], "{target}");
    }
}

#[test]
fn a_policy_anywhere_that_may_require_tls_makes_proxies_wait_for_an_answer() {
    use OutboundTlsMode::{Prefer, Require};
    let elsewhere = |mode: &str| tls_policy("namespace: else, name: p", "{kind: Service, name: x}", mode);
    for (policy, expected) in [
        (String::new(), Prefer),
        (elsewhere("Prefer"), Prefer),
        (elsewhere("Require"), Require),
        (elsewhere("Nonsense"), Require),
        (outbound_policy("namespace: else, name: p", "{kind: Service, name: x}", "Nonsense"), Prefer),
        (elsewhere("Require").replace("spec: {", "spec: {mode: Audit, "), Prefer),
    ] {
        let compiled = inbound_of(&shop(&policy).view());
        assert_eq!(compiled.config.unwrap().unknown_destinations, expected, "{policy}");
        assert!(compiled.facts.contains(&Fact::RequiredTls));
    }
}

#[test]
fn a_pod_that_is_not_known_yet_may_be_one_that_a_policy_requires_tls_of() {
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: one}\nspec: {podCIDRs: [10.1.0.0/24]}\n---\n";
    let require = tls_policy("namespace: else, name: p", "{kind: Service, name: x}", "Require");
    for (policy, at, expected) in [
        ("", "10.1.0.77:80", OutboundTlsMode::Prefer),
        (require.as_str(), "10.1.0.77:80", OutboundTlsMode::Require),
        (require.as_str(), "10.2.0.77:80", OutboundTlsMode::Prefer),
    ] {
        let index = shop(&format!("{node}{policy}"));
        let compiled = outbound(&index.view(), "client", address(at));
        assert_eq!(compiled.config, Ok(Outbound::unknown(expected)), "{at} {policy}");
        assert!(compiled.facts.contains(&Fact::PodRanges));
    }
}
