//! A TrafficPolicy as users write it, and every word that is said of what is wrong with one.

use super::*;
use crate::index::fault::{Fault, FaultKind};
use kube::core::SelectorExt;
use serde_json::{Value, json};

fn read(spec: Value) -> TargetedPolicy {
    let policy = serde_json::from_value(json!({
        "apiVersion": "conduit.io/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {"name": "reviews", "namespace": "books"},
        "spec": spec,
    }));
    parse(&policy.unwrap())
}

fn said(policy: &TargetedPolicy) -> Vec<String> {
    policy.policy.faults.iter().map(Fault::to_string).collect()
}

#[test]
fn a_policy_declares_protocols_and_tls_of_services_their_ports_and_its_namespace() {
    let policy = read(json!({
        "targetRefs": [
            {"group": "", "kind": "Service", "name": "reviews", "sectionName": "http"},
            {"kind": "Service", "name": "ratings"},
            {"kind": "Namespace"},
        ],
        "mode": "Enforce",
        "outbound": {"protocol": {"type": "HTTP2"}, "tls": {"mode": "Require"}},
        "inbound": {"protocol": {"type": "Opaque"}, "mtls": {"mode": "STRICT"}},
    }));
    assert_eq!(said(&policy), [""; 0]);
    let service =
        |name: &str, port: Option<&str>| PolicyTarget::Service { name: name.into(), port: port.map(Into::into) };
    assert_eq!(policy.targets, [service("reviews", Some("http")), service("ratings", None), PolicyTarget::Namespace]);
    let declared = Policy {
        outbound_protocol: Some(Protocol::Http2),
        outbound_tls: Some(OutboundTlsMode::Require),
        inbound_protocol: Some(Protocol::Opaque),
        inbound_mtls: Some(InboundMtlsMode::Strict),
    };
    assert_eq!(policy.policy.value, Some(declared));
}

#[test]
fn pods_are_selected_by_labels_and_by_expressions() {
    let policy = read(json!({
        "targetRefs": [{"kind": "Pod", "selector": {
            "matchLabels": {"app": "reviews"},
            "matchExpressions": [{"key": "track", "operator": "NotIn", "values": ["canary"]}],
        }}],
        "inbound": {"protocol": {"type": "GRPC"}},
    }));
    assert_eq!(said(&policy), [""; 0]);
    let [PolicyTarget::Pods(selector)] = &policy.targets[..] else { panic!("{:?}", policy.targets) };
    let labels = |labels: &[(&str, &str)]| labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    assert!(selector.matches(&labels(&[("app", "reviews")])));
    assert!(!selector.matches(&labels(&[("app", "reviews"), ("track", "canary")])));
    assert!(!selector.matches(&labels(&[("app", "ratings")])));
}

#[test]
fn every_fault_is_reported_at_once_with_its_path() {
    let policy = read(json!({"targetRefs": [
        {"group": "apps", "kind": "Service"},
        {"kind": "HTTPRoute", "name": "r"},
        {"kind": "Namespace", "name": "books", "sectionName": "x", "selector": {}},
        {"kind": "Pod"},
        {"kind": "Pod", "selector": {}},
        {"kind": "Pod", "selector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}},
        {"kind": "Service", "name": "reviews"},
    ]}));
    let expected = [
        "spec.targetRefs[0].group: must be \"\" for kind Service, was \"apps\"",
        "spec.targetRefs[0].name: must be set for kind Service",
        "spec.targetRefs[1].group: must be \"gateway.networking.k8s.io\" for kind HTTPRoute, was \"\"",
        "spec.targetRefs[1].kind: is not supported yet and has no effect",
        "spec.targetRefs[2].name: must not be set for kind Namespace",
        "spec.targetRefs[2].sectionName: must not be set for kind Namespace",
        "spec.targetRefs[2].selector: must not be set for kind Namespace",
        "spec.targetRefs[3].selector: must be set for kind Pod",
        "spec.targetRefs[4].selector: must not be empty",
        "spec.targetRefs[5].selector: must be a label selector: failed to parse value as expression: Invalid expression operator",
        "spec: must set at least one of outbound, inbound, telemetry",
        "spec: a target of kind Pod is for inbound only: must set inbound and not outbound",
    ];
    assert_eq!(said(&policy), expected);
    assert_eq!(policy.policy.value, None);
    let unreadable = |target: &&PolicyTarget| **target == PolicyTarget::Unreadable;
    assert_eq!((policy.targets.len(), policy.targets.iter().filter(unreadable).count()), (7, 4));
    assert_eq!(said(&read(json!({"targetRefs": [], "telemetry": {}})))[0], "spec.targetRefs: must not be empty");
}

#[test]
fn every_block_that_is_not_supported_is_named_and_has_no_effect_beside_those_that_are() {
    let rate = json!({"requests": 100, "unit": "Second"});
    let policy = read(json!({
        "targetRefs": [{"kind": "Service", "name": "reviews"}, {"group": "conduit.io", "kind": "ServiceProfile", "name": "p"}],
        "outbound": {
            "protocol": {"type": "Detect", "detectTimeout": "1s"},
            "timeouts": {"request": "10s"},
            "retry": {"attempts": 2},
            "retryConstraint": {"budget": {"percent": 20}},
            "loadBalancer": {"type": "PeakEWMA"},
            "sessionPersistence": {"type": "Cookie"},
            "circuitBreaker": {"maxConnections": 1},
            "outlierDetection": {"consecutiveErrors": 7},
            "faultInjection": {"delay": {"fixedDelay": "1s", "percentage": "0.5"}},
            "rateLimit": {"local": rate},
            "responseClassification": [{"codes": [429], "isFailure": false}],
        },
        "inbound": {
            "protocol": {"type": "TLS"},
            "authorization": {"rules": [{"action": "Allow", "from": [{"namespaces": ["ops"]}]}]},
            "rateLimit": {"local": [{"name": "all", "requests": 1, "unit": "Minute"}]},
            "limits": {"maxConnections": 10},
        },
        "telemetry": {"accessLog": {"enabled": true}, "tracing": {"samplingPercent": 1}, "metrics": {"labels": ["a"]}},
    }));
    assert!(policy.policy.faults.iter().all(|fault| fault.kind == FaultKind::UnsupportedField));
    let paths: Vec<_> = policy.policy.faults.iter().map(|fault| fault.path.as_str()).collect();
    let expected = [
        "spec.targetRefs[1].kind",
        "spec.outbound.timeouts",
        "spec.outbound.retry",
        "spec.outbound.retryConstraint",
        "spec.outbound.loadBalancer",
        "spec.outbound.sessionPersistence",
        "spec.outbound.circuitBreaker",
        "spec.outbound.outlierDetection",
        "spec.outbound.faultInjection",
        "spec.outbound.rateLimit",
        "spec.outbound.responseClassification",
        "spec.outbound.protocol.detectTimeout",
        "spec.inbound.authorization",
        "spec.inbound.rateLimit",
        "spec.inbound.limits",
        "spec.telemetry.accessLog",
        "spec.telemetry.tracing",
        "spec.telemetry.metrics",
    ];
    assert_eq!(paths, expected);
    let declared = policy.policy.value.unwrap();
    assert_eq!((declared.outbound_protocol, declared.inbound_protocol), (Some(Protocol::Detect), Some(Protocol::Tls)));
}

#[test]
fn an_audited_policy_does_not_act() {
    let policy = read(json!({
        "targetRefs": [{"kind": "Namespace"}],
        "mode": "Audit",
        "outbound": {"protocol": {"type": "HTTP1"}, "tls": {"mode": "Require"}},
    }));
    assert_eq!(said(&policy), ["spec.mode: is not supported yet and has no effect"]);
    assert_eq!(policy.policy.value, Some(Policy::default()));
    assert!(policy.sets.is_empty() && !policy.may_require_tls());
}
