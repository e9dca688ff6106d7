//! The webhooks as the API server sees them, with an API server that answers from memory.

use super::*;
use crate::index::Index;
use axum::body::Body;
use http::{Method, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use kube::Client;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::sync::mpsc;
use tower::ServiceExt;

/// A request that the operator made: `METHOD path`, and its body.
type Made = (String, Value);

struct Webhooks {
    router: Router,
    made: mpsc::UnboundedReceiver<Made>,
    metrics: Metrics,
}

impl Webhooks {
    /// Webhooks before an API server that answers namespaces with `namespace`, and takes events.
    fn with_namespace(namespace: impl Fn() -> Value + Clone + Send + 'static) -> Self {
        let (tx, made) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (tx, namespace) = (tx.clone(), namespace.clone());
            async move {
                let what = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                tx.send((what.clone(), body.clone())).unwrap();
                let answer = if what.starts_with("GET /api/v1/namespaces/") { namespace() } else { body };
                if answer.is_null() {
                    std::future::pending::<()>().await;
                }
                let code = answer["code"].as_u64().map_or(200, |code| u16::try_from(code).unwrap());
                let body = kube::client::Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(http::Response::builder().status(code).body(body).unwrap())
            }
        });
        let client = Client::new(service, "default");
        let (events, writer) = Events::new(client.clone(), "operator-1".into());
        tokio::spawn(writer.run());
        let metrics = Metrics::default();
        let router = router(Arc::new(Admission {
            config: config(),
            cluster_domain: "cluster.local".into(),
            namespaces: Namespaces::new(Index::new("cluster.local"), client),
            events,
            metrics: metrics.clone(),
        }));
        Self { router, made, metrics }
    }

    fn new() -> Self {
        Self::with_namespace(|| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
    }

    async fn send(&self, request: http::Request<Body>) -> (StatusCode, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The `response` of the review that answers `review`.
    async fn review(&self, path: &str, review: &Value) -> Value {
        let (status, body) = self.send(post(path, "application/json", review.to_string())).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&answer["apiVersion"], &answer["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        answer["response"].take()
    }

    fn counted(&self) -> String {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| line.starts_with("conduit_admission_requests_total")).collect::<Vec<_>>().join("\n")
    }
}

fn config() -> inject::Config {
    inject::Config {
        proxy_image: "example.org/conduit-proxy:1".into(),
        image_pull_policy: "IfNotPresent".into(),
        version: "1".into(),
        discovery_address: "operator:8086".into(),
        identity_address: "operator:8080".into(),
        trust_domain: "cluster.local".parse().unwrap(),
        init_resources: inject::Resources::default(),
        defaults: inject::Settings::default(),
    }
}

fn post(path: &str, content_type: &str, body: impl Into<Body>) -> http::Request<Body> {
    http::Request::post(path).header(CONTENT_TYPE, content_type).body(body.into()).unwrap()
}

fn review(group: &str, kind: &str, resource: &str, object: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "42",
            "kind": {"group": group, "version": "v1alpha1", "kind": kind},
            "resource": {"group": group, "version": "v1alpha1", "resource": resource},
            "namespace": "shop", "operation": "CREATE", "userInfo": {}, "object": object,
        },
    })
}

fn pod_review(metadata: Value, spec: Value) -> Value {
    review("", "Pod", "pods", json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
}

fn plain_pod() -> Value {
    pod_review(json!({"name": "web"}), json!({"containers": [{"name": "app"}]}))
}

fn profile_review(spec: Value) -> Value {
    let metadata = json!({"name": "web.shop.svc.cluster.local", "namespace": "shop"});
    let object =
        json!({"apiVersion": "conduit.io/v1alpha1", "kind": "ServiceProfile", "metadata": metadata, "spec": spec});
    review("conduit.io", "ServiceProfile", "serviceprofiles", object)
}

#[tokio::test]
async fn a_pod_is_answered_with_the_patch_that_injection_decided_on() {
    let webhooks = Webhooks::new();
    for path in ["/inject/namespace", "/inject/pod"] {
        let response = webhooks.review(path, &plain_pod()).await;
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("42"), &json!(true)));
        assert_eq!(response["patchType"], "JSONPatch");
        let patch: Vec<u8> = serde_json::from_value(response["patch"].clone()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        let mut pod = plain_pod()["request"]["object"].take();
        json_patch::patch(&mut pod, &patch).unwrap();
        let names: Vec<_> = pod["spec"]["initContainers"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
        assert_eq!(names, ["conduit-init", "conduit-proxy"]);
    }
    assert_eq!(webhooks.counted(), "conduit_admission_requests_total{webhook=\"inject\",outcome=\"injected\"} 2");
}

#[tokio::test]
async fn a_refused_pod_says_everything_that_has_to_change() {
    let webhooks = Webhooks::with_namespace(|| {
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}})
    });
    let annotations = json!({"config.conduit.io/proxy-log-format": "xml"});
    let pod = pod_review(json!({"name": "web", "annotations": annotations}), json!({"containers": [{"name": "app"}]}));
    assert_eq!(
        webhooks.review("/inject/namespace", &pod).await,
        json!({
            "uid": "42", "allowed": false,
            "status": {
                "status": "Failure", "code": 403, "reason": "Forbidden",
                "message": "namespace \"shop\" is labelled pod-security.kubernetes.io/enforce=baseline, which forbids \
                    the capability NET_ADMIN that conduit-init needs: label it \
                    pod-security.kubernetes.io/enforce=privileged, or opt out with conduit.io/inject=disabled on the \
                    pod; annotation config.conduit.io/proxy-log-format: must be `plain` or `json`, is \"xml\"",
            },
        })
    );
}

#[tokio::test]
async fn a_skip_that_may_surprise_is_told_by_an_event_on_the_controller_but_not_on_a_dry_run() {
    let mut webhooks = Webhooks::new();
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "7", "controller": true});
    let metadata = json!({"generateName": "web-1-", "ownerReferences": [owner]});
    let spec = json!({"hostNetwork": true, "containers": [{"name": "app"}]});
    let mut dry_run = pod_review(metadata.clone(), spec.clone());
    dry_run["request"]["dryRun"] = json!(true);
    for review in [dry_run, pod_review(metadata, spec)] {
        let response = webhooks.review("/inject/namespace", &review).await;
        assert_eq!(response, json!({"uid": "42", "allowed": true, "status": {}}));
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(webhooks.made.recv().await.unwrap());
    }
    // Both reviews read the namespace; only the one that counts made an event.
    let (what, event) = seen.remove(2);
    assert_eq!(what, "POST /apis/events.k8s.io/v1/namespaces/shop/events");
    assert_eq!((&event["reason"], &event["regarding"]["kind"]), (&json!("InjectionSkipped"), &json!("ReplicaSet")));
    assert_eq!((&event["regarding"]["name"], &event["regarding"]["uid"]), (&json!("web-1"), &json!("7")));
    assert!(event["note"].as_str().unwrap().contains("spec.hostNetwork"));
    assert!(webhooks.made.try_recv().is_err());
}

#[tokio::test]
async fn unknown_settings_are_warned_of() {
    let annotations = json!({"config.conduit.io/proxy-colour": "red"});
    let pod = pod_review(json!({"annotations": annotations}), json!({"containers": [{"name": "app"}]}));
    let response = Webhooks::new().review("/inject/pod", &pod).await;
    assert_eq!(
        response["warnings"],
        json!(["annotation config.conduit.io/proxy-colour: there is no such setting, it has no effect"])
    );
}

#[tokio::test]
async fn a_namespace_that_cannot_be_read_refuses_the_pod_and_says_so() {
    let webhooks = Webhooks::with_namespace(
        || json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no"}),
    );
    let response = webhooks.review("/inject/namespace", &plain_pod()).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(500)));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("cannot read namespace \"shop\""), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_would_come_too_late_is_given_up_before_the_api_server_does() {
    let webhooks = Webhooks::with_namespace(|| Value::Null);
    let start = Instant::now();
    let request = post("/inject/pod", "application/json", plain_pod().to_string());
    let (status, body) = webhooks.send(request).await;
    assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "no answer in time"));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(webhooks.counted(), "conduit_admission_requests_total{webhook=\"inject\",outcome=\"failed\"} 1");
}

#[tokio::test]
async fn what_is_no_review_is_refused_with_the_reason() {
    let webhooks = Webhooks::new();
    let large = vec![b' '; review::BODY_LIMIT + 1];
    let mut other_version = plain_pod();
    other_version["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut no_request = plain_pod();
    no_request.as_object_mut().unwrap().remove("request");
    let mut no_pod = plain_pod();
    no_pod["request"]["object"]["spec"]["containers"] = json!("none");
    let json = "application/json";
    let table: [(&str, Body, StatusCode, &str); 8] = [
        ("text/plain", "{}".into(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "content type must be application/json"),
        ("", "{}".into(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "content type must be application/json"),
        (json, large.into(), StatusCode::PAYLOAD_TOO_LARGE, "a body must have at most 8388608 bytes"),
        (json, "".into(), StatusCode::BAD_REQUEST, "must be an AdmissionReview of admission.k8s.io/v1: EOF"),
        (json, "[1]".into(), StatusCode::BAD_REQUEST, "must be an AdmissionReview of admission.k8s.io/v1"),
        (json, other_version.to_string().into(), StatusCode::BAD_REQUEST, "must be an AdmissionReview of"),
        (json, no_request.to_string().into(), StatusCode::BAD_REQUEST, "request: must be there"),
        ("application/json; charset=utf-8", no_pod.to_string().into(), StatusCode::BAD_REQUEST, "must be an"),
    ];
    for (content_type, body, expected, said) in table {
        let (status, body) = webhooks.send(post("/inject/namespace", content_type, body)).await;
        assert_eq!(status, expected, "{body}");
        assert!(body.starts_with(said), "{body}");
    }
    let get = http::Request::builder().method(Method::GET).uri("/inject/pod").body(Body::empty()).unwrap();
    assert_eq!(webhooks.send(get).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(webhooks.counted(), "conduit_admission_requests_total{webhook=\"inject\",outcome=\"malformed\"} 8");
}

#[tokio::test]
async fn what_is_not_the_creation_of_a_pod_is_let_through() {
    let webhooks = Webhooks::new();
    let mut update = plain_pod();
    update["request"]["operation"] = json!("UPDATE");
    let mut ephemeral = plain_pod();
    ephemeral["request"]["subResource"] = json!("ephemeralcontainers");
    for review in [update, ephemeral] {
        let response = webhooks.review("/inject/namespace", &review).await;
        assert_eq!(response, json!({"uid": "42", "allowed": true, "status": {}}));
    }
}

#[tokio::test]
async fn a_bad_profile_is_refused_with_every_fault_at_once() {
    let routes = json!([
        {"name": "a", "condition": {"pathRegex": "("}},
        {"name": "a", "condition": {"method": "GET"}},
    ]);
    let response = Webhooks::new().review("/validate", &profile_review(json!({"routes": routes}))).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(422)));
    assert_eq!(response["status"]["reason"], "Invalid");
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.routes[0].condition.pathRegex: ") && message.contains("; "), "{message}");
    assert!(message.contains("spec.routes[1].name: "), "{message}");
}

#[tokio::test]
async fn a_field_without_effect_is_allowed_with_a_warning() {
    let routes = json!([{"name": "a", "condition": {"method": "GET"}, "timeout": "1s"}]);
    let response = Webhooks::new().review("/validate", &profile_review(json!({"routes": routes}))).await;
    assert_eq!(
        response,
        json!({
            "uid": "42", "allowed": true, "status": {},
            "warnings": ["spec.routes[0].timeout: is not supported yet and has no effect"],
        })
    );
}

#[tokio::test]
async fn an_object_of_the_wrong_shape_is_refused_and_its_deletion_is_not() {
    let webhooks = Webhooks::new();
    let mut review = profile_review(json!({"routes": "all"}));
    let response = webhooks.review("/validate", &review).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(422)));
    assert!(response["status"]["message"].as_str().unwrap().starts_with("cannot be read: "), "{response}");
    review["request"]["operation"] = json!("DELETE");
    review["request"]["oldObject"] = review["request"]["object"].take();
    assert_eq!(webhooks.review("/validate", &review).await["allowed"], json!(true));
}

#[tokio::test]
async fn an_object_that_is_being_deleted_can_lose_its_finalizers_whatever_it_says() {
    let mut review = profile_review(json!({"routes": [{"name": "a", "condition": {}}]}));
    review["request"]["operation"] = json!("UPDATE");
    assert_eq!(Webhooks::new().review("/validate", &review).await["allowed"], json!(false));
    review["request"]["object"]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(Webhooks::new().review("/validate", &review).await["allowed"], json!(true));
}
