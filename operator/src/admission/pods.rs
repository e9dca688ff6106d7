//! Injection, asked for by the API server: from a review to the decision of `inject` and back.

use super::{
    Admission, Answer,
    metrics::Outcome,
    review::{allowed, denied, read},
};
use crate::inject::{Decision, Namespace, Refusal, decide};
use axum::extract::Request;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, Operation};

/// Answers a review of a pod.
pub(super) async fn answer(admission: &Admission, request: Request) -> Answer {
    let review = match read::<Pod>(request).await {
        Ok(review) => review,
        Err(error) => return error.answer(),
    };
    let response = AdmissionResponse::from(&review);
    // The webhook configuration asks for nothing else; a hand-written one may.
    let Some(pod) = created(&review) else { return (Outcome::Skipped, allowed(response, Vec::new())) };
    let name = namespace(&review, pod);
    let facts = match admission.namespaces.get(name).await {
        Ok(facts) => facts,
        Err(error) => {
            let message = format!("cannot read namespace {name:?}, which decides how the pod gets its proxy: {error}");
            tracing::error!(namespace = name, %error, "a pod was refused because its namespace could not be read");
            let code = StatusCode::INTERNAL_SERVER_ERROR;
            return (Outcome::Failed, denied(response, code, "InternalError", &message));
        }
    };
    let facts = Namespace { name, labels: &facts.labels, annotations: &facts.annotations };
    match decide(facts, pod, &admission.config) {
        Decision::Skip(skip) => {
            if skip.surprises() && !review.dry_run {
                admission.events.skipped(name, pod, skip);
            }
            (Outcome::Skipped, allowed(response, Vec::new()))
        }
        Decision::Refuse(refusals) => {
            (Outcome::Denied, denied(response, StatusCode::FORBIDDEN, "Forbidden", &message(&refusals)))
        }
        Decision::Inject(plan) => match response.with_patch(plan.patch) {
            Ok(response) => (Outcome::Injected, allowed(response, plan.warnings)),
            Err(error) => {
                let code = StatusCode::INTERNAL_SERVER_ERROR;
                let response = AdmissionResponse::from(&review);
                (Outcome::Failed, denied(response, code, "InternalError", &error.to_string()))
            }
        },
    }
}

fn created(review: &AdmissionRequest<Pod>) -> Option<&Pod> {
    let is_pod =
        review.resource.group.is_empty() && review.resource.resource == "pods" && review.sub_resource.is_none();
    review.object.as_ref().filter(|_| is_pod && review.operation == Operation::Create)
}

/// A pod's own metadata may lack the namespace; the request has it.
fn namespace<'a>(review: &'a AdmissionRequest<Pod>, pod: &'a Pod) -> &'a str {
    review.namespace.as_deref().or(pod.metadata.namespace.as_deref()).unwrap_or("default")
}

fn message(refusals: &[Refusal]) -> String {
    refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; ")
}
