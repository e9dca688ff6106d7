//! What is made of the API server's answers, and that all of them may be missing.

use conduit_operator::inject::{DISABLED, ENABLED, INJECT_LABEL, PROXY_CONTAINER, VERSION_ANNOTATION};
use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::installation::definition;
use super::namespace::{AGE, CONNECTED, stream_of};
use super::*;
use crate::check::installed::{Admission, Definition};
use crate::check::proxies::Stream;
use crate::exposition::Exposition;

/// A cluster that answers each method and path as told.
fn gatherer(answer: impl Fn(&str, &str) -> (u16, Value) + Clone + Send + 'static) -> Gatherer {
    let service = tower::service_fn(move |request: Request<Body>| {
        let (status, body) = answer(request.method().as_str(), request.uri().path());
        let mut response = Response::new(Body::from(body.to_string().into_bytes()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response.headers_mut().insert("date", "Thu, 01 Jan 2026 10:00:00 GMT".parse().unwrap());
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    Gatherer::new(Client::new(service, "default"), "conduit".into())
}

fn refusal(code: u16, message: &str) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "Other" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code});
    (code, status)
}

fn version(minor: &str) -> (u16, Value) {
    let words = ["gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"];
    let mut info: serde_json::Map<_, _> = words.map(|word| (word.to_owned(), "x".into())).into_iter().collect();
    info.extend([("major".to_owned(), "1".into()), ("minor".to_owned(), minor.into())]);
    (200, info.into())
}

#[tokio::test]
async fn a_minor_version_may_carry_a_plus() {
    assert_eq!(gatherer(|_, _| version("30+")).version().await, Ok(Version { major: 1, minor: 30 }));
    assert!(matches!(gatherer(|_, _| version("x")).version().await, Err(Unknown::Failed(_))));
    let refused = gatherer(|_, _| refusal(500, "because")).version().await;
    assert_eq!(refused, Err(Unknown::Failed("cannot read the version of the API server: because".into())));
}

#[tokio::test]
async fn without_any_right_every_fact_names_the_one_that_is_missing() {
    let gatherer = gatherer(|method, path| match (method, path) {
        ("POST", _) => refusal(403, "pods is forbidden: User \"x\" cannot create resource \"pods\""),
        _ => refusal(403, "forbidden"),
    });
    let facts = Box::pin(gatherer.installed()).await;
    let forbidden = |right: &str| Some(Unknown::Forbidden(right.into()));
    assert_eq!(facts.operator.err(), forbidden("get deployments in namespace conduit"));
    assert_eq!(facts.webhooks.err(), forbidden("get mutatingwebhookconfigurations"));
    assert_eq!(facts.admission.err(), forbidden("create pods in namespace default"));
    assert_eq!(facts.definitions.err(), forbidden("get customresourcedefinitions"));
    assert_eq!(facts.secret.err(), forbidden("get secrets/conduit-identity in namespace conduit"));
    assert_eq!(facts.expirations.err(), forbidden("list pods in namespace conduit"));
    assert_eq!(facts.bundles.err(), forbidden("list namespaces"));
    assert_eq!(facts.clocks.err(), forbidden("list leases in namespace kube-node-lease"));
    let facts = Box::pin(gatherer.proxies("shop")).await;
    assert_eq!(facts.pods.err(), forbidden("list pods in namespace shop"));
    assert_eq!(facts.bundle.err(), forbidden("get configmaps in namespace shop"));
    assert_eq!(facts.objects.err(), forbidden("list serviceprofiles.conduit.io in namespace shop"));
}

#[tokio::test]
async fn a_trial_pod_tells_whether_the_webhook_is_reached() {
    let made = |containers: Value| {
        gatherer(move |method, path| {
            assert_eq!((method, path), ("POST", "/api/v1/namespaces/default/pods"));
            (
                201,
                json!({"metadata": {"generateName": "conduit-check-"}, "spec": {"initContainers": containers, "containers": []}}),
            )
        })
    };
    assert_eq!(made(json!([{"name": "conduit-proxy"}])).admission().await, Ok(Admission::Injected));
    assert_eq!(made(json!([])).admission().await, Ok(Admission::NotInjected));
    let refused = async |code, message| gatherer(move |_, _| refusal(code, message)).admission().await;
    let unreachable = "Internal error occurred: failed calling webhook \"pod.injector.conduit.io\": timeout";
    assert_eq!(refused(500, unreachable).await, Ok(Admission::Unreachable(unreachable.into())));
    assert_eq!(refused(403, "exceeded quota").await, Ok(Admission::Refused("exceeded quota".into())));
}

#[tokio::test]
async fn the_secret_is_the_one_that_the_operator_was_told() {
    let there = gatherer(|_, path| match path.rsplit('/').next() {
        Some("mine") => (
            200,
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": "mine"}}),
        ),
        _ => refusal(404, "none"),
    });
    let operator = |flag: &str| Ok(Some(Operator { arguments: vec![flag.into()], ..Operator::default() }));
    assert_eq!(there.secret(&operator("--issuer-secret=mine")).await, Ok(("mine".into(), true)));
    assert_eq!(there.secret(&operator("--issuer-secret=")).await, Ok(("conduit-identity".into(), false)));
}

#[tokio::test]
async fn the_clock_of_the_api_server_is_that_of_its_answers() {
    let answers = gatherer(|_, path| match path {
        "/version" => version("33"),
        _ => {
            let lease = json!({"metadata": {"name": "a"}, "spec": {"renewTime": "2026-01-01T09:59:55.000000Z"}});
            (
                200,
                json!({"kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1", "metadata": {}, "items": [lease]}),
            )
        }
    });
    let clocks = answers.clocks().await.unwrap();
    assert_eq!(clocks.server.to_string(), "2026-01-01T10:00:00Z");
    assert_eq!(clocks.nodes, [("a".to_owned(), "2026-01-01T09:59:55Z".parse().unwrap())]);
}

#[test]
fn a_definition_is_compared_by_its_schemas() {
    let wanted = conduit_crds::definitions().remove(0);
    let mut found = wanted.clone();
    assert_eq!(definition(&wanted, None), Definition::Missing);
    assert_eq!(definition(&wanted, Some(&found)), Definition::NotEstablished);
    let established = json!({"conditions": [{"type": "Established", "status": "True"}]});
    found.status = serde_json::from_value(established).unwrap();
    assert_eq!(definition(&wanted, Some(&found)), Definition::Current);
    found.spec.versions[0].schema = None;
    assert_eq!(definition(&wanted, Some(&found)), Definition::Different);
}

#[test]
fn a_pod_opts_in_by_its_namespace_or_its_own_label() {
    let opted_in = |label: Option<&str>, namespace| {
        let labels = label.map(|label| json!({INJECT_LABEL: label}));
        let pod = json!({"metadata": {"name": "a", "namespace": "b", "labels": labels}, "spec": {"containers": []}});
        pod_facts(&serde_json::from_value(pod).unwrap(), namespace).opted_in
    };
    assert!(opted_in(Some(ENABLED), false) && opted_in(None, true));
    assert!(!opted_in(Some(DISABLED), true) && !opted_in(None, false));
}

#[test]
fn a_proxys_container_is_ready_by_its_own_status() {
    let pod = |ready: bool| {
        let statuses = json!([
            {"name": "conduit-init", "ready": true, "image": "", "imageID": "", "restartCount": 0},
            {"name": PROXY_CONTAINER, "ready": ready, "image": "", "imageID": "", "restartCount": 0}
        ]);
        let metadata = json!({"name": "a", "namespace": "b", "annotations": {VERSION_ANNOTATION: "7"}});
        let spec = json!({"containers": [], "initContainers": [{"name": PROXY_CONTAINER}]});
        let pod = json!({"metadata": metadata, "spec": spec, "status": {"initContainerStatuses": statuses}});
        pod_facts(&serde_json::from_value(pod).unwrap(), true)
    };
    assert!(pod(true).proxy_ready && !pod(false).proxy_ready && pod(true).meshed);
    assert_eq!(pod(true).version.as_deref(), Some("7"));
}

#[test]
fn a_streams_age_is_read_from_the_metrics() {
    let read = |text: &str| stream_of(&Exposition::parse(text, &[CONNECTED, AGE]).unwrap());
    let connected = read("conduit_discovery_connected 1\nconduit_config_age_seconds 0.0\n");
    assert_eq!(connected, Stream { connected: true, age: Some(0.0) });
    assert_eq!(read("conduit_discovery_connected 0\n"), Stream { connected: false, age: None });
}
