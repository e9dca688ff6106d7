//! The rules that the API server enforces, evaluated here: what users may write is taken, what they may not is refused
//! in words. The API server itself evaluates them in the cases on a cluster.
#![allow(clippy::unwrap_used)]

use conduit_crds::{ServiceProfile, TrafficPolicy};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Each rule that `spec` does not meet, as `path: message`.
macro_rules! unmet {
    ($kind:ty, $spec:expr) => {{
        let object: $kind = read(stringify!($kind), $spec);
        let errors = object.validate_cel().err().map(|errors| errors.into_vec()).unwrap_or_default();
        errors.iter().map(|error| format!("{}: {}", error.field_path, error.message)).collect::<Vec<_>>()
    }};
}

fn read<K: DeserializeOwned>(kind: &str, spec: Value) -> K {
    let metadata = json!({"name": "web.shop.svc.cluster.local", "namespace": "shop"});
    serde_json::from_value(
        json!({"apiVersion": "conduit.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}),
    )
    .unwrap()
}

fn policy(spec: Value) -> Vec<String> {
    let mut spec = spec;
    if spec.get("targetRefs").is_none() {
        spec["targetRefs"] = json!([{"kind": "Namespace"}]);
    }
    unmet!(TrafficPolicy, spec)
}

fn profile(condition: Value) -> Vec<String> {
    unmet!(ServiceProfile, json!({"routes": [{"name": "a", "condition": condition}]}))
}

#[test]
fn conditions_nest_three_levels_and_set_something_on_each() {
    let deep = "conditions nest at most three levels deep; write it as one pathRegex or split it over several routes or classes";
    let empty = "must set at least one of all, any, method, not, pathRegex";
    assert_eq!(profile(json!({"all": [{"any": [{"method": "GET"}]}, {"not": {"pathRegex": "/"}}]})), [""; 0]);
    assert_eq!(
        profile(json!({"all": [{"any": [{"not": {"method": "GET"}}]}]})),
        [format!("spec.routes[0].condition.all[0].any[0]: {deep}"),]
    );
    assert_eq!(
        profile(json!({"not": {"not": {"method": "GET", "all": [{"method": "GET"}]}}})),
        [format!("spec.routes[0].condition.not.not: {deep}"),]
    );
    assert_eq!(profile(json!({})), [format!("spec.routes[0].condition: {empty}")]);
    assert_eq!(profile(json!({"not": {}})), [format!("spec.routes[0].condition.not: {empty}")]);
}

#[test]
fn a_status_range_has_an_end_and_does_not_run_backwards() {
    let class = |status: Value| {
        let classes = json!([{"condition": {"status": status}}]);
        unmet!(
            ServiceProfile,
            json!({"routes": [{"name": "a", "condition": {"method": "GET"}, "responseClasses": classes}]})
        )
    };
    let path = "spec.routes[0].responseClasses[0].condition.status";
    assert_eq!(class(json!({"min": 404})), [""; 0]);
    assert_eq!(class(json!({"min": 500, "max": 500})), [""; 0]);
    assert_eq!(class(json!({"min": 500, "max": 499})), [format!("{path}: min must not be above max")]);
    assert_eq!(class(json!({})), [format!("{path}: must set at least one of min, max")]);
}

#[test]
fn a_retry_budget_counts_over_one_second_to_a_minute() {
    let ttl = |ttl: &str| {
        unmet!(ServiceProfile, json!({"retryBudget": {"retryRatio": 0.2, "minRetriesPerSecond": 1, "ttl": ttl}}))
    };
    for (text, taken) in [("1s", true), ("60s", true), ("1m", true), ("999ms", false), ("61s", false)] {
        let expected: &[&str] = if taken { &[] } else { &["spec.retryBudget.ttl: must be a duration from 1s to 60s"] };
        assert_eq!(ttl(text), expected, "{text}");
    }
}

#[test]
fn a_policy_says_something_and_policies_on_pods_are_inbound_only() {
    let on_pods = json!([{"kind": "Pod", "selector": {"matchLabels": {"app": "web"}}}]);
    let inbound_only = "spec: a target of kind Pod is for inbound only: must set inbound and not outbound";
    assert_eq!(policy(json!({})), ["spec: must set at least one of outbound, inbound, telemetry"]);
    assert_eq!(policy(json!({"targetRefs": on_pods, "inbound": {}})), [""; 0]);
    assert_eq!(policy(json!({"targetRefs": on_pods, "outbound": {}, "inbound": {}})), [inbound_only]);
    assert_eq!(
        policy(json!({"targetRefs": on_pods, "telemetry": {"tracing": {"samplingPercent": 1}}})),
        [inbound_only]
    );
}

#[test]
fn a_target_is_named_as_its_kind_asks() {
    let group = "spec.targetRefs[0]: group must be the kind's: empty for Service, Pod and Namespace, \
                 gateway.networking.k8s.io for HTTPRoute and GRPCRoute, conduit.io for ServiceProfile";
    let name = "spec.targetRefs[0]: name must be set, but for Pod and Namespace";
    let selector = "spec.targetRefs[0]: selector must be set for Pod, and for no other kind";
    let section = "spec.targetRefs[0]: sectionName must not be set for Pod and Namespace";
    for (target, expected) in [
        (json!({"kind": "Service", "name": "web", "sectionName": "http"}), &[][..]),
        (json!({"kind": "HTTPRoute", "group": "gateway.networking.k8s.io", "name": "r"}), &[]),
        (json!({"kind": "ServiceProfile", "group": "conduit.io", "name": "p"}), &[]),
        (json!({"kind": "HTTPRoute", "name": "r"}), &[group]),
        (json!({"kind": "Service", "group": "apps", "name": "web"}), &[group]),
        (json!({"kind": "Service"}), &[name]),
        (json!({"kind": "Namespace", "name": "shop"}), &[name]),
        (json!({"kind": "Pod"}), &[selector]),
        (json!({"kind": "Service", "name": "web", "selector": {"matchLabels": {"a": "b"}}}), &[selector]),
        (json!({"kind": "Namespace", "sectionName": "x"}), &[section]),
    ] {
        let case = target.to_string();
        assert_eq!(policy(json!({"targetRefs": [target], "inbound": {}})), expected, "{case}");
    }
}

#[test]
fn blocks_of_a_policy_do_not_contradict_themselves() {
    for (spec, expected) in [
        (
            json!({"outbound": {"timeouts": {"request": "1s", "backendRequest": "1001ms"}}}),
            "spec.outbound.timeouts: backendRequest must not be longer than request",
        ),
        (json!({"outbound": {"timeouts": {"idle": "0s"}}}), "spec.outbound.timeouts.idle: must be longer than 0s"),
        (
            json!({"outbound": {"retry": {"backoff": "2s", "maxBackoff": "1s"}}}),
            "spec.outbound.retry: maxBackoff must not be shorter than backoff",
        ),
        (
            json!({"outbound": {"retryConstraint": {"budget": {"interval": "61s"}}}}),
            "spec.outbound.retryConstraint.budget.interval: must be a duration from 1s to 60s",
        ),
        (
            json!({"outbound": {"loadBalancer": {"type": "ConsistentHash"}}}),
            "spec.outbound.loadBalancer: consistentHash must be set for type ConsistentHash, and for no other",
        ),
        (
            json!({"outbound": {"loadBalancer": {"consistentHash": {"type": "SourceIP"}}}}),
            "spec.outbound.loadBalancer: consistentHash must be set for type ConsistentHash, and for no other",
        ),
        (
            json!({"outbound": {"sessionPersistence": {"type": "Header", "cookie": {"lifetimeType": "Session"}}}}),
            "spec.outbound.sessionPersistence: cookie must be set for type Cookie only",
        ),
        (
            json!({"outbound": {"sessionPersistence": {"type": "Cookie", "cookie": {"lifetimeType": "Permanent"}}}}),
            "spec.outbound.sessionPersistence: absoluteTimeout must be set where the cookie's lifetimeType is Permanent",
        ),
        (
            json!({"outbound": {"outlierDetection": {"baseEjectionTime": "2s", "maxEjectionTime": "1s"}}}),
            "spec.outbound.outlierDetection: maxEjectionTime must not be shorter than baseEjectionTime",
        ),
        (
            json!({"outbound": {"faultInjection": {}}}),
            "spec.outbound.faultInjection: must set at least one of delay, abort",
        ),
        (
            json!({"outbound": {"faultInjection": {"abort": {"percentage": 1}}}}),
            "spec.outbound.faultInjection.abort: must set at least one of httpStatus, grpcStatus",
        ),
        (
            json!({"inbound": {"authorization": {"defaultAction": "Deny"}}}),
            "spec.inbound.authorization: defaultAction must be set only together with rules",
        ),
        (
            json!({"inbound": {"authorization": {"rules": [{"action": "Allow"}]}}}),
            "spec.inbound.authorization.rules[0]: must set at least one of from, to",
        ),
        (
            json!({"inbound": {"rateLimit": {"local": [{"name": "a", "requests": 1, "unit": "Hour", "key": [{"type": "Header"}]}]}}}),
            "spec.inbound.rateLimit.local[0].key[0]: name must be set for type Header, and for no other",
        ),
    ] {
        assert_eq!(policy(spec), [expected]);
    }
}
