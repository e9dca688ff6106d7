//! The admin server: probes and metrics. Must not know what the parts do.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header::CONTENT_TYPE};
use prometheus_client::{encoding::text::encode, metrics::info::Info, registry::Registry};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Says whether this replica should be sent anything.
#[derive(Clone)]
pub(super) struct Readiness {
    conditions: Arc<[Condition]>,
    draining: Arc<AtomicBool>,
}

/// Something that has to be so before this replica is ready.
pub(super) struct Condition {
    /// What is said while it is not so.
    pub(super) missing: &'static str,
    /// Whether it is so.
    pub(super) met: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Condition {
    pub(super) fn new(missing: &'static str, met: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { missing, met: Box::new(met) }
    }
}

impl Readiness {
    pub(super) fn new(conditions: Vec<Condition>) -> Self {
        Self { conditions: conditions.into(), draining: Arc::default() }
    }

    /// From now on this replica is not ready.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Everything that is missing; nothing when ready.
    fn missing(&self) -> Vec<&'static str> {
        let stopping = self.draining.load(Ordering::Acquire).then_some("the operator is stopping");
        let unmet = self.conditions.iter().filter(|condition| !(condition.met)());
        stopping.into_iter().chain(unmet.map(|condition| condition.missing)).collect()
    }
}

/// A registry with what every part of the operator says of itself.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("conduit_operator_build", "The running operator", build);
    registry
}

/// `/live`, `/ready` and `/metrics`.
pub(super) fn router(readiness: Readiness, registry: Registry) -> Router {
    Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready).with_state(readiness))
        .route("/metrics", get(metrics).with_state(Arc::new(registry)))
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    match readiness.missing().as_slice() {
        [] => (StatusCode::OK, "ready\n".to_owned()),
        missing => (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n"),
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => {
            let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, openmetrics)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let response = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_everything_that_is_missing_and_ends_with_draining() {
        let synced = Arc::new(AtomicBool::new(false));
        let met = Arc::clone(&synced);
        let readiness = Readiness::new(vec![
            Condition::new("the index is not synced", move || met.load(Ordering::SeqCst)),
            Condition::new("there is no certificate", || true),
        ]);
        let router = router(readiness.clone(), registry());
        assert_eq!(get(&router, "/ready").await, (StatusCode::SERVICE_UNAVAILABLE, "the index is not synced\n".into()));
        synced.store(true, Ordering::SeqCst);
        assert_eq!(get(&router, "/ready").await, (StatusCode::OK, "ready\n".into()));
        readiness.drain();
        assert_eq!(
            get(&router, "/ready").await,
            (StatusCode::SERVICE_UNAVAILABLE, "the operator is stopping\n".into())
        );
        assert_eq!(get(&router, "/live").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_in_the_format_that_prometheus_reads() {
        let (status, text) = get(&router(Readiness::new(Vec::new()), registry()), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("conduit_operator_build_info{version=\"") && text.ends_with("# EOF\n"), "{text}");
    }
}
