//! Decision tables of compilation: objects as users write them in, what a proxy is told out.

use super::*;
use crate::index::{Index, View, manifests::objects};
use conduit_model::{
    DirectReason, EndpointProxy, Forward, Inbound, InboundMtlsMode, Network, Outbound, OutboundTlsMode, Probe, Protocol,
};
use std::{net::SocketAddr, sync::RwLockReadGuard};

mod tls;

/// An index that holds these documents.
fn index(yaml: &str) -> Index {
    let index = Index::new("cluster.local");
    for object in objects(yaml, "cluster.local").unwrap() {
        index.apply(object);
    }
    index
}

const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: Web, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  clusterIPs: [10.96.0.1, "fd00::1"]
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}, {name: db, port: 3306, targetPort: 7000}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: Web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: db, port: 7000}]
endpoints:
- {addresses: [10.1.0.1], targetRef: {kind: Pod, name: web-1}}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web-1, labels: {app: web}}
spec:
  serviceAccountName: web
  initContainers: [{name: conduit-proxy, restartPolicy: Always}]
  containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]
status: {podIPs: [{ip: 10.1.0.1}, {ip: "fd01::1"}]}
---
"#;

fn shop(more: &str) -> Index {
    index(&format!("{SHOP}{more}"))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn outbound_of(index: &Index, text: &str) -> Outbound {
    outbound(&index.view(), "client", address(text)).config.unwrap()
}

fn inbound_of(view: &RwLockReadGuard<'_, View>) -> Compiled<Inbound> {
    inbound(view, view.pod_at(address("10.1.0.1:1").ip()).unwrap())
}

fn reason(outbound: &Outbound) -> Option<DirectReason> {
    match &outbound.forward {
        Forward::Balance => None,
        Forward::Direct { reason, .. } => Some(*reason),
    }
}

/// A policy of the namespace `shop`, or another, in the words that differ.
fn policy(metadata: &str, target: &str, blocks: &str) -> String {
    format!(
        "apiVersion: conduit.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{{metadata}}}\n\
         spec: {{targetRefs: [{target}], {blocks}}}\n---\n"
    )
}

fn outbound_policy(metadata: &str, target: &str, protocol: &str) -> String {
    policy(metadata, target, &format!("outbound: {{protocol: {{type: {protocol}}}}}"))
}

fn profile(namespace: &str, name: &str, route: &str) -> String {
    format!(
        "apiVersion: conduit.io/v1alpha1\nkind: ServiceProfile\nmetadata: {{namespace: {namespace}, name: {name}}}\n\
         spec: {{routes: [{{name: {route}, condition: {{pathRegex: {route}}}}}]}}\n---\n"
    )
}

#[test]
fn a_service_is_balanced_over_the_pods_of_the_addresses_family() {
    let index = shop("");
    let web = outbound_of(&index, "10.96.0.1:80");
    assert_eq!((web.protocol, reason(&web)), (Protocol::Http1, None));
    assert_eq!(web.service.unwrap().to_string(), "Web.shop.svc.cluster.local:80");
    let found = endpoints(&index.view(), address("10.96.0.1:80")).config.unwrap().unwrap();
    let [(at, endpoint)] = found.into_iter().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(
        (at, endpoint.proxy.is_meshed(), endpoint.workload.pod.as_str()),
        (address("10.1.0.1:8080"), true, "web-1")
    );
    let ipv6 = endpoints(&index.view(), address("[fd00::1]:80")).config.unwrap().unwrap();
    assert!(ipv6.is_empty(), "the only slice is IPv4");
    assert_eq!(
        outbound_of(&index, "10.96.0.1:81"),
        Outbound::unknown(OutboundTlsMode::Prefer),
        "the Service has no such port"
    );
}

#[test]
fn an_endpoint_takes_mutual_tls_where_its_proxy_answers_for_the_port_opaque_or_not() {
    use EndpointProxy::{Mtls, None};
    let opaque =
        |ports: &str| format!("labels: {{app: web}}, annotations: {{config.conduit.io/opaque-ports: \"{ports}\"}}");
    let skipped = |port: u16| format!("initContainers: [{{name: conduit-init, args: [--skip-inbound-ports={port}]}}, ");
    for (from, to, expected) in [
        ("labels: {app: web}", "labels: {app: web}".to_owned(), [Mtls, Mtls]),
        ("labels: {app: web}", opaque("8080"), [Mtls, Mtls]),
        ("labels: {app: web}", opaque("x"), [Mtls, Mtls]),
        ("initContainers: [", skipped(8080), [None, Mtls]),
        ("initContainers: [", skipped(1), [Mtls, None]),
        ("name: conduit-proxy", "name: other".into(), [None, None]),
    ] {
        assert!(SHOP.contains(from));
        let index = index(&SHOP.replace(from, &to));
        let view = index.view();
        let balanced = endpoints(&view, address("10.96.0.1:80")).config.unwrap().unwrap().into_values();
        assert_eq!(balanced.map(|endpoint| endpoint.proxy).collect::<Vec<_>>(), [expected[0]], "{to}");
        let direct = ["10.1.0.1:8080", "10.1.0.1:1"].map(|at| {
            let config = outbound(&view, "client", address(at)).config;
            match config.unwrap_or_else(|invalid| invalid.meanwhile).forward {
                Forward::Direct { endpoint: Some(pod), .. } => pod.proxy,
                other => panic!("{at} is a pod: {other:?}"),
            }
        });
        assert_eq!(direct, expected, "{to}");
    }
}

#[test]
fn services_that_a_balancer_cannot_stand_in_for_are_left_to_kube_proxy() {
    let service = |spec: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: x}}\n\
             spec: {{clusterIPs: [10.96.0.2], ports: [{{name: http, port: 80}}], {spec}}}\n"
        )
    };
    let foreign = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                   metadata: {namespace: shop, name: x-1, labels: {kubernetes.io/service-name: x}}\n\
                   addressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [192.0.2.1]}]\n";
    let left = Some(DirectReason::LeftToKubeProxy);
    for (manifest, expected) in [
        (service("selector: {app: x}"), (Protocol::Http1, None)),
        (service("selector: {app: x}, internalTrafficPolicy: Local"), (Protocol::Http1, left)),
        (service("selector: {app: x}, sessionAffinity: ClientIP"), (Protocol::Http1, left)),
        (service("type: ClusterIP"), (Protocol::Opaque, left)),
        (service("selector: {app: x}") + foreign, (Protocol::Opaque, left)),
        (service("type: ExternalName, selector: {app: x}"), (Protocol::Opaque, Some(DirectReason::UnknownAddress))),
    ] {
        let index = shop(&manifest);
        let got = outbound_of(&index, "10.96.0.2:80");
        assert_eq!((got.protocol, reason(&got)), expected, "{manifest}");
        let told = endpoints(&index.view(), address("10.96.0.2:80")).config.unwrap();
        assert_eq!(told.is_some(), expected.1.is_none(), "{manifest}");
    }
}

#[test]
fn endpoints_are_those_that_kube_proxy_would_take() {
    let slice = |endpoints: &[(&str, &str)]| {
        let endpoints = endpoints.iter().map(|(ip, conditions)| {
            format!("{{addresses: [{ip}], conditions: {{{conditions}}}, targetRef: {{kind: Pod, name: web-1}}}}")
        });
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{namespace: shop, name: web-1, labels: {{kubernetes.io/service-name: Web}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: [{}]\n---\napiVersion: v1\nkind: Pod\n\
             metadata: {{namespace: shop, name: web-1, labels: {{app: web}}}}\nspec: {{containers: []}}\n\
             status: {{podIPs: [{{ip: 10.1.0.1}}, {{ip: 10.1.0.2}}, {{ip: 10.1.0.3}}]}}\n",
            endpoints.collect::<Vec<_>>().join(", ")
        )
    };
    const READY: &str = "ready: true, serving: true";
    const NOT_READY: &str = "ready: false, serving: false";
    const STOPPING: &str = "ready: false, serving: true, terminating: true";
    for (endpoints_of_slice, expected) in [
        (vec![("10.1.0.1", READY), ("10.1.0.2", NOT_READY), ("10.1.0.3", STOPPING)], vec!["10.1.0.1:8080"]),
        (vec![("10.1.0.2", NOT_READY), ("10.1.0.3", STOPPING)], vec!["10.1.0.3:8080"]),
        (vec![("10.1.0.2", NOT_READY)], vec![]),
        (vec![("10.1.0.2", "")], vec!["10.1.0.2:8080"]),
    ] {
        let index = shop(&slice(&endpoints_of_slice));
        let got = endpoints(&index.view(), address("10.96.0.1:80")).config.unwrap().unwrap();
        let got: Vec<_> = got.keys().map(ToString::to_string).collect();
        assert_eq!(got, expected, "{endpoints_of_slice:?}");
    }
}

#[test]
fn an_endpoint_whose_pod_is_not_known_is_left_out_until_it_is() {
    let index = shop("");
    let pod = objects(SHOP, "cluster.local").unwrap().pop().unwrap();
    index.delete(pod.key());
    let count = || endpoints(&index.view(), address("10.96.0.1:80")).config.unwrap().unwrap().len();
    assert_eq!(count(), 0);
    assert_eq!(reason(&outbound_of(&index, "10.96.0.1:80")), None, "the Service stays balanced");
    index.apply(pod);
    assert_eq!(count(), 1);
    let anew = "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: web-1}\nstatus: {podIP: 10.1.0.9}\n";
    index.apply(objects(anew, "cluster.local").unwrap().remove(0));
    assert_eq!(count(), 0, "another pod of the same name, at another address");
}

#[test]
fn a_pods_own_address_is_direct_with_its_workload_and_the_ports_protocol() {
    let index = shop("");
    for (at, protocol) in [
        ("10.1.0.1:8080", Protocol::Http1),
        ("[fd01::1]:8080", Protocol::Http1),
        ("10.1.0.1:7000", Protocol::Opaque),
        ("10.1.0.1:9999", Protocol::Detect),
        ("10.1.0.1:6379", Protocol::Opaque),
    ] {
        let got = outbound_of(&index, at);
        assert_eq!(got.protocol, protocol, "{at}");
        let Forward::Direct { reason: DirectReason::Pod, endpoint: Some(endpoint) } = got.forward else {
            panic!("{at}: {:?}", got.forward)
        };
        assert_eq!((endpoint.address, endpoint.workload.service_account.as_str()), (address(at), "web"));
    }
}

#[test]
fn addresses_that_are_nobodys_own_are_unknown() {
    let host = "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: agent}\n\
                spec: {hostNetwork: true, containers: []}\nstatus: {podIP: 192.168.0.1}\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: done}\n\
                spec: {containers: []}\nstatus: {podIP: 10.1.0.9, phase: Succeeded}\n";
    let index = shop(host);
    for at in ["192.168.0.1:80", "10.1.0.9:80", "192.0.2.1:443"] {
        assert_eq!(outbound_of(&index, at), Outbound::unknown(OutboundTlsMode::Prefer), "{at}");
    }
}

#[test]
fn the_most_specific_policy_has_the_say_then_the_clients_then_the_oldest() {
    let port = outbound_policy("namespace: shop, name: port", "{kind: Service, name: Web, sectionName: http}", "GRPC");
    let other = outbound_policy("namespace: shop, name: other", "{kind: Service, name: Web, sectionName: db}", "TLS");
    let service = outbound_policy("namespace: shop, name: service", "{kind: Service, name: Web}", "HTTP2");
    let namespace = outbound_policy("namespace: shop, name: ns", "{kind: Namespace}", "Opaque");
    let client = outbound_policy("namespace: client, name: ns", "{kind: Namespace}", "TLS");
    let dated = |name: &str, day: u8, protocol: &str| {
        let metadata = format!("namespace: shop, name: {name}, creationTimestamp: \"2026-01-0{day}T00:00:00Z\"");
        outbound_policy(&metadata, "{kind: Service, name: Web}", protocol)
    };
    for (policies, expected) in [
        (vec![&port, &other, &service, &namespace, &client], Protocol::Grpc),
        (vec![&other, &service, &namespace, &client], Protocol::Http2),
        (vec![&namespace, &client], Protocol::Tls),
        (vec![&namespace], Protocol::Opaque),
        (vec![&other], Protocol::Http1),
        (vec![&dated("a", 2, "TLS"), &dated("b", 1, "Opaque")], Protocol::Opaque),
        (vec![&dated("a", 1, "TLS"), &dated("b", 1, "Opaque")], Protocol::Tls),
    ] {
        let index = shop(&policies.iter().map(|policy| policy.as_str()).collect::<String>());
        assert_eq!(outbound_of(&index, "10.96.0.1:80").protocol, expected, "{policies:?}");
    }
    let index = shop(&[port, other, service, namespace].concat());
    let compiled = outbound(&index.view(), "client", address("10.96.0.1:80"));
    let names = |sources: &BTreeSet<Source>| sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&compiled.sources), ["port"], "what the others would have said is not in it");
    assert_eq!(names(&compiled.overridden), ["ns", "service"]);
}

#[test]
fn the_clients_profile_wins_whole_over_the_services() {
    let name = "Web.shop.svc.cluster.local";
    let routes = |index: &Index, client: &str| {
        let compiled = outbound(&index.view(), client, address("10.96.0.1:80"));
        compiled.config.unwrap().routes.iter().map(|route| route.name.clone()).collect::<Vec<_>>()
    };
    let index = shop(&(profile("shop", name, "/shop") + &profile("client", name, "/client")));
    assert_eq!(routes(&index, "client"), ["/client"]);
    assert_eq!(routes(&index, "shop"), ["/shop"]);
    assert_eq!(routes(&index, "else"), ["/shop"]);
    assert_eq!(routes(&shop(""), "client"), [""; 0]);
}

#[test]
fn what_cannot_be_read_is_said_with_its_object_and_still_counts_as_a_source() {
    let name = "Web.shop.svc.cluster.local";
    let unreadable = outbound_policy("namespace: shop, name: bad", "{kind: Service, name: Web}", "Nonsense");
    for (manifest, object, sources) in [
        (profile("shop", name, "("), format!("serviceprofile/shop/{name}"), 1),
        (unreadable.clone() + &profile("shop", name, "/"), "trafficpolicy/shop/bad".into(), 2),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {config.conduit.io/opaque-ports: x}}\n"
                .into(),
            "namespace/shop".into(),
            0,
        ),
    ] {
        let compiled = outbound(&shop(&manifest).view(), "client", address("10.96.0.1:80"));
        assert_eq!(compiled.config.unwrap_err().unreadable.object, object, "{manifest}");
        assert_eq!(compiled.sources.len(), sources, "{manifest}");
    }
}

#[test]
fn inbound_ports_know_the_services_that_lead_to_them() {
    let index = shop(&profile("shop", "Web.shop.svc.cluster.local", "/a"));
    let view = index.view();
    let config = inbound_of(&view).config.unwrap();
    assert_eq!((config.workload.pod.as_str(), config.terminating), ("web-1", false));
    let ports: Vec<_> = config.ports.iter().map(|port| (port.ports.first(), port.protocol)).collect();
    assert_eq!(ports, [(7000, Protocol::Opaque), (8080, Protocol::Http1)]);
    let [web] = config.port(8080).unwrap().services.as_slice() else { panic!("{config:?}") };
    assert_eq!(web.service.port, 80);
    assert_eq!(web.hosts, ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"]);
    assert_eq!(web.routes.len(), 1);
}

#[test]
fn a_service_that_leads_nowhere_yet_is_depended_on_because_its_ports_may_change() {
    let other = "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: other}\n\
                 spec: {selector: {app: web}, ports: [{port: 90, targetPort: not-there}]}\n";
    let facts = inbound_of(&shop(other).view()).facts;
    assert!(facts.contains(&Fact::Service(crate::index::ObjectName::new("shop", "other"))), "{facts:?}");
}

#[test]
fn a_port_that_is_opaque_on_one_side_is_opaque_on_both() {
    let annotated = |kind: &str, name: &str, ports: &str, rest: &str| {
        format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{namespace: shop, name: {name}, labels: {{app: web}}, \
             annotations: {{config.conduit.io/opaque-ports: \"{ports}\"}}}}\n{rest}\n---\n"
        )
    };
    let service = annotated(
        "Service",
        "Web",
        "80",
        "spec: {clusterIPs: [10.96.0.1], selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}",
    );
    let pod = annotated("Pod", "web-1", "8080", "spec: {containers: []}\nstatus: {podIP: 10.1.0.1}");
    let namespace = annotated("Namespace", "shop", "80,8080", "").replace("namespace: shop, ", "");
    for manifest in [&service, &pod, &namespace] {
        let index = shop(manifest);
        let view = index.view();
        let port = inbound_of(&view).config.unwrap().port(8080).unwrap().protocol;
        assert_eq!(port, Protocol::Opaque, "{manifest}");
        let direct = outbound(&view, "client", address("10.1.0.1:8080")).config.unwrap().protocol;
        assert_eq!(direct, Protocol::Opaque, "{manifest}");
    }
    for manifest in [&service, &namespace] {
        assert_eq!(outbound_of(&shop(manifest), "10.96.0.1:80").protocol, Protocol::Opaque, "{manifest}");
    }
}

#[test]
fn ports_that_are_listed_as_opaque_are_known_in_rows_between_those_that_are_known_for_themselves() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web-1, labels: {app: web}, annotations: {config.conduit.io/opaque-ports: 1-65535}}
spec: {containers: [{name: web, ports: [{containerPort: 9090}]}]}
status: {podIP: 10.1.0.1}
";
    let namespace = policy("namespace: shop, name: ns", "{kind: Namespace}", "inbound: {mtls: {mode: STRICT}}");
    let index = shop(&[pod, &namespace].join("---\n"));
    let config = inbound_of(&index.view()).config.unwrap();
    let rows: Vec<_> = config.ports.iter().map(|port| port.ports.to_string()).collect();
    assert_eq!(rows, ["1-6999", "7000", "7001-9089", "9090", "9091-65535"]);
    assert!(config.ports.iter().all(|port| port.protocol == Protocol::Opaque && port.mtls == config.mtls));
    assert_eq!(config.port(7000).unwrap().services.len(), 1);
}

#[test]
fn inbound_policies_go_by_port_service_pods_and_namespace() {
    let say = |name: &str, target: &str, protocol: &str| {
        let block = format!("inbound: {{protocol: {{type: {protocol}}}}}");
        policy(&format!("namespace: shop, name: {name}"), target, &block)
    };
    let port = say("port", "{kind: Service, name: Web, sectionName: http}", "GRPC");
    let service = say("service", "{kind: Service, name: Web}", "HTTP2");
    let pods = say("pods", "{kind: Pod, selector: {matchLabels: {app: web}}}", "TLS");
    let others = say("others", "{kind: Pod, selector: {matchLabels: {app: else}}}", "TLS");
    let namespace = say("ns", "{kind: Namespace}", "Opaque");
    for (policies, expected) in [
        (vec![&port, &service, &pods, &namespace], Protocol::Grpc),
        (vec![&service, &pods, &namespace], Protocol::Http2),
        (vec![&pods, &namespace], Protocol::Tls),
        (vec![&others, &namespace], Protocol::Opaque),
        (vec![&others], Protocol::Http1),
    ] {
        let index = shop(&policies.iter().map(|policy| policy.as_str()).collect::<String>());
        let got = inbound_of(&index.view()).config.unwrap().port(8080).unwrap().protocol;
        assert_eq!(got, expected, "{policies:?}");
    }
}

#[test]
fn probes_are_known_with_where_they_come_from() {
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: one}\nspec: {podCIDRs: [10.1.0.0/24, \"fd01::/64\"]}\n\
                status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: Hostname, address: one}]}\n---\n";
    let http = "httpGet: {path: /ready, port: http}";
    let containers = format!(
        "spec:\n  nodeName: one\n  containers: [{{name: app, ports: [{{name: http, containerPort: 8080}}], \
         readinessProbe: {{{http}}}, livenessProbe: {{{http}}}, \
         startupProbe: {{httpGet: {{path: /x, port: 8443, scheme: HTTPS}}}}}}]\n"
    );
    let (before, after) = SHOP.split_once("spec:\n  serviceAccountName: web").unwrap();
    let rest = after.split_once("  initContainers").unwrap().1.split_once("containers: [").unwrap();
    let sidecar = "  initContainers: [{name: conduit-proxy, restartPolicy: Always, readinessProbe: \
                   {httpGet: {path: /proxy, port: 8080}}}, {name: own, restartPolicy: Always, readinessProbe: {grpc: {port: 9000}}}]\n";
    let status = rest.1.split_once('\n').unwrap().1;
    let index = index(&format!("{node}{before}{containers}{sidecar}{status}"));
    index.set_probe_networks(vec!["198.51.100.0/24".parse().unwrap()]);
    let compiled = inbound_of(&index.view());
    let config = compiled.config.unwrap();
    let probes = |port| config.port(port).unwrap().probes.clone();
    assert_eq!(probes(8080), [Probe::Path("/ready".into())], "once, and not the proxy's own");
    assert_eq!(probes(8443), [Probe::Tls], "a port that nothing else declares");
    assert_eq!(probes(9000), [Probe::Path("/grpc.health.v1.Health/Check".into())]);
    let networks: Vec<_> = config.probe_networks.iter().map(Network::to_string).collect();
    assert_eq!(networks, ["10.1.0.1/32", "192.0.2.1/32", "198.51.100.0/24", "fd01::1/128"]);
    assert!([Fact::Node("one".into()), Fact::ProbeNetworks].iter().all(|fact| compiled.facts.contains(fact)));
}

#[test]
fn a_proxy_is_told_the_roots_of_the_mesh() {
    let index = shop("");
    index.set_trust_bundle(vec![bytes::Bytes::from_static(b"root")]);
    let compiled = inbound_of(&index.view());
    assert_eq!(compiled.config.unwrap().trust_bundle, index.view().trust_bundle());
    assert!(compiled.facts.contains(&Fact::TrustBundle));
}

#[test]
fn a_pod_that_is_told_to_stop_says_so() {
    let index = shop(
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: web-1, deletionTimestamp: \"2026-01-01T00:00:00Z\"}\n\
         status: {podIP: 10.1.0.1}\n",
    );
    assert!(inbound_of(&index.view()).config.unwrap().terminating);
}
