//! A ServiceProfile as users write it, and every word that is said of what is wrong with one.

use super::*;
use crate::index::fault::{Fault, FaultKind};
use conduit_model::{GrpcOutcome, classify};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const NAME: &str = "web.shop.svc.cluster.local";

fn read(spec: Value) -> Declared<Profile> {
    named(NAME, spec)
}

fn named(name: &str, spec: Value) -> Declared<Profile> {
    let profile = serde_json::from_value(json!({
        "apiVersion": "conduit.io/v1alpha1",
        "kind": "ServiceProfile",
        "metadata": {"name": name, "namespace": "shop", "generation": 3, "creationTimestamp": "2026-11-22T10:00:00Z"},
        "spec": spec,
    }));
    parse(&profile.unwrap(), "cluster.local")
}

fn with_condition(condition: Value) -> Declared<Profile> {
    read(json!({"routes": [{"name": "a", "condition": condition}]}))
}

fn said(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(Fault::to_string).collect()
}

#[track_caller]
fn assert_refused(declared: &Declared<Profile>, expected: &[&str]) {
    assert_eq!(said(&declared.faults), expected);
    assert_eq!(declared.value, None, "an object with an invalid field cannot be read");
}

#[test]
fn routes_keep_their_order_and_several_fields_of_a_condition_must_all_be_met() {
    let profile = read(json!({"routes": [
        {"name": "GET /books/{id}", "condition": {"method": "GET", "pathRegex": "/books/\\d+"}},
        {"name": "not GET", "condition": {"not": {"method": "GET"}}},
        {"name": "static", "condition": {"any": [{"pathRegex": "/a"}, {"all": [{"pathRegex": "/b.*"}, {"method": "HEAD"}]}]}},
    ]}));
    assert_eq!(said(&profile.faults), [""; 0]);
    assert_eq!((profile.generation, profile.created), (3, 1_795_341_600));
    let routes = profile.value.unwrap().routes;
    let find = |method: &Method, path: &str| Route::find(&routes, method, path).map(|route| route.name.as_str());
    assert_eq!(find(&Method::GET, "/books/42"), Some("GET /books/{id}"));
    assert_eq!(find(&Method::POST, "/books/42"), Some("not GET"));
    assert_eq!(find(&Method::GET, "/a"), Some("static"));
    assert_eq!(find(&Method::GET, "/bc"), None, "only HEAD");
    assert_eq!(routes[0].source.to_string(), format!("serviceprofile/shop/{NAME}"));
}

#[test]
fn one_end_of_a_status_range_alone_is_exactly_that_status() {
    let profile = read(json!({"routes": [{"name": "a", "condition": {"pathRegex": "/.*"}, "responseClasses": [
        {"condition": {"status": {"min": 404}}, "isFailure": true},
        {"condition": {"status": {"max": 503}}},
        {"condition": {"status": {"min": 429, "max": 430}}, "isFailure": true},
    ]}]}));
    let route = &profile.value.unwrap().routes[0];
    let judge = |status| classify(&route.response_classes, StatusCode::from_u16(status).unwrap(), GrpcOutcome::NotGrpc);
    for (status, expected) in [
        (404, Classification::Failure),
        (405, Classification::Success),
        (503, Classification::Success),
        (502, Classification::Failure),
        (430, Classification::Failure),
    ] {
        assert_eq!(judge(status), expected, "{status}");
    }
}

#[test]
fn a_name_that_is_no_services_is_refused() {
    for name in
        ["web", "web.shop", "web.shop.svc.example.org", "a.web.shop.svc.cluster.local", ".shop.svc.cluster.local"]
    {
        let expected = format!("metadata.name: must be <service>.<namespace>.svc.cluster.local, was {name:?}");
        assert_refused(&named(name, json!({})), &[&expected]);
    }
    assert_eq!(service(NAME, "cluster.local"), Some(ObjectName::new("shop", "web")));
}

#[test]
fn every_fault_is_reported_at_once_with_its_path() {
    let profile = read(json!({
        "routes": [
            {"name": "a", "condition": {"all": []}},
            {"name": "a", "condition": {"pathRegex": "(", "method": "no method"}, "timeout": "soon"},
            {"name": "", "condition": {}, "responseClasses": []},
            {"name": "[DEFAULT]", "condition": {"any": [{}, {"not": {}}]}, "responseClasses": [
                {"condition": {"status": {}}},
                {"condition": {"status": {"min": 99, "max": 600}}},
                {"condition": {"status": {"min": 500, "max": 400}}},
                {"condition": {}},
            ]},
        ],
        "retryBudget": {"retryRatio": -1.0, "minRetriesPerSecond": 4_000_000_000u32, "ttl": "10ms"},
        "dstOverrides": [{"authority": "a b", "weight": "x"}],
        "opaquePorts": ["0", "9-8"],
    }));
    assert_refused(
        &profile,
        &[
            "spec.routes[0].condition.all: must not be empty",
            "spec.routes[1].name: must differ from every other route's, was \"a\", as in spec.routes[0]",
            "spec.routes[1].condition.pathRegex: must be a regular expression: regex parse error:\n    (\n    ^\nerror: unclosed group",
            "spec.routes[1].condition.method: must be an HTTP method, was \"no method\"",
            "spec.routes[1].timeout: must be a duration such as `300ms` or `1m30s`, was \"soon\"",
            "spec.routes[2].name: must not be empty",
            "spec.routes[2].condition: must set at least one of all, any, method, not, pathRegex",
            "spec.routes[2].responseClasses: must not be empty",
            "spec.routes[3].name: must not be [DEFAULT], which metrics call requests without a route",
            "spec.routes[3].condition.any[0]: must set at least one of all, any, method, not, pathRegex",
            "spec.routes[3].condition.any[1].not: must set at least one of all, any, method, not, pathRegex",
            "spec.routes[3].responseClasses[0].condition.status: must set at least one of min, max",
            "spec.routes[3].responseClasses[1].condition.status.min: must be a status from 100 to 599, was 99",
            "spec.routes[3].responseClasses[1].condition.status.max: must be a status from 100 to 599, was 600",
            "spec.routes[3].responseClasses[2].condition.status: min must not be above max, was 500 to 400",
            "spec.routes[3].responseClasses[3].condition: must set at least one of all, any, not, status",
            "spec.retryBudget.retryRatio: must be from 0 to 1000, was -1",
            "spec.retryBudget.minRetriesPerSecond: must be from 0 to 2147483647, was 4000000000",
            "spec.retryBudget.ttl: must be a duration from 1s to 60s, was \"10ms\"",
            "spec.retryBudget: is not supported yet and has no effect",
            "spec.dstOverrides[0].authority: must be `host` or `host:port`, was \"a b\"",
            "spec.dstOverrides[0].weight: must be a number or a quantity such as `500m`, was \"x\"",
            "spec.dstOverrides: is not supported yet and has no effect",
            "spec.opaquePorts[0]: must be a port or a range of ports such as `4000-4010`, was \"0\"",
            "spec.opaquePorts[1]: must be a port or a range of ports such as `4000-4010`, was \"9-8\"",
            "spec.opaquePorts: is not supported yet and has no effect",
        ],
    );
}

#[test]
fn conditions_past_three_levels_are_refused() {
    let fine = json!({"all": [{"any": [{"method": "GET"}]}]});
    assert!(with_condition(fine.clone()).value.is_some());
    assert_refused(
        &with_condition(json!({"not": fine})),
        &[
            "spec.routes[0].condition.not.all[0].any[0]: conditions nest at most three levels deep; write it as one pathRegex or \
         split it over several routes or classes",
        ],
    );
}

#[test]
fn lists_and_strings_past_their_maximum_are_refused() {
    let many = |n: usize| vec![json!({"method": "GET"}); n];
    assert!(with_condition(json!({"any": many(32)})).value.is_some());
    assert_refused(
        &with_condition(json!({"any": many(33)})),
        &["spec.routes[0].condition.any: must have at most 32 items, had 33"],
    );
    assert_refused(
        &with_condition(json!({"pathRegex": "a".repeat(1025)})),
        &["spec.routes[0].condition.pathRegex: must have at most 1024 characters, had 1025"],
    );
    let routes: Vec<_> = (0..257).map(|i| json!({"name": i.to_string(), "condition": {"method": "GET"}})).collect();
    assert_refused(&read(json!({"routes": routes})), &["spec.routes: must have at most 256 items, had 257"]);
    assert_refused(&read(json!({"routes": []})), &["spec.routes: must not be empty"]);
}

#[test]
fn a_field_that_is_not_supported_has_no_effect_and_the_rest_is_in_effect() {
    let profile = read(json!({
        "routes": [
            {"name": "a", "condition": {"method": "GET"}, "isRetryable": true, "timeout": "300ms"},
            {"name": "b", "condition": {"method": "PUT"}, "isRetryable": false, "timeout": ""},
        ],
        "retryBudget": {"retryRatio": 0.2, "minRetriesPerSecond": 10, "ttl": "10s"},
        "dstOverrides": [{"authority": "web-v2.shop.svc.cluster.local:80", "weight": "500m"}, {"authority": "web", "weight": 1}],
        "opaquePorts": ["3306", "4000-4010"],
    }));
    assert!(profile.faults.iter().all(|fault| fault.kind == FaultKind::UnsupportedField));
    let paths: Vec<_> = profile.faults.iter().map(|fault| fault.path.as_str()).collect();
    let expected = [
        "spec.routes[0].isRetryable",
        "spec.routes[0].timeout",
        "spec.retryBudget",
        "spec.dstOverrides",
        "spec.opaquePorts",
    ];
    assert_eq!(paths, expected);
    assert_eq!(profile.value.unwrap().routes.len(), 2);
}
