//! The webhooks: decode what the API server asks, let `inject` or the index's conversion decide, answer.
//!
//! Two paths inject, `/inject/namespace` and `/inject/pod`, one for each entry of the webhook configuration: that the API
//! server called at all proves the opt-in. `/validate` reads ServiceProfiles and TrafficPolicies as the index will.
//!
//! This room must not decide anything about a pod or an object itself, and must not know how connections are accepted.

mod events;
mod metrics;
mod namespaces;
mod objects;
mod pods;
mod review;
mod server;
#[cfg(test)]
mod tests;

pub use events::{EventWriter, Events};
pub use metrics::Metrics;
pub use namespaces::Namespaces;
pub use server::serve;

use crate::inject;
use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::post,
};
use http::StatusCode;
use metrics::{Outcome, Webhook};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The API server gives up after five seconds; an answer that says why is worth more than one that comes too late.
const DEADLINE: Duration = Duration::from_secs(4);

/// What the webhooks work with.
pub struct Admission {
    /// What pods get.
    pub config: inject::Config,
    /// DNS domain of the cluster, which the names of ServiceProfiles end in.
    pub cluster_domain: String,
    /// Facts of namespaces.
    pub namespaces: Namespaces,
    /// Where skips are told.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
}

/// A whole answer, and how it is counted.
type Answer = (Outcome, Response);

/// The paths of the webhooks.
pub fn router(admission: Arc<Admission>) -> Router {
    Router::new()
        .route("/inject/namespace", post(inject))
        .route("/inject/pod", post(inject))
        .route("/validate", post(validate))
        .with_state(admission)
}

async fn inject(State(admission): State<Arc<Admission>>, request: Request) -> Response {
    measured(&admission.metrics, Webhook::Inject, pods::answer(&admission, request)).await
}

async fn validate(State(admission): State<Arc<Admission>>, request: Request) -> Response {
    measured(&admission.metrics, Webhook::Validate, objects::answer(&admission.cluster_domain, request)).await
}

async fn measured(metrics: &Metrics, webhook: Webhook, answer: impl Future<Output = Answer>) -> Response {
    let start = Instant::now();
    let (outcome, response) = match tokio::time::timeout(DEADLINE, answer).await {
        Ok(answer) => answer,
        Err(_) => (Outcome::Failed, (StatusCode::SERVICE_UNAVAILABLE, "no answer in time").into_response()),
    };
    metrics.record(webhook, outcome, start.elapsed());
    response
}
