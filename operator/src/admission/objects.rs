//! Validation of Conduit's own objects, by the conversion that the index uses: what is refused here could not have taken
//! effect, and what is warned of does not.

use super::{
    Answer,
    metrics::Outcome,
    review::{allowed, denied, read},
};
use crate::index::{
    fault::{Fault, FaultKind},
    policy, profile,
};
use axum::extract::Request;
use conduit_crds::{ServiceProfile, TrafficPolicy};
use http::StatusCode;
use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionResponse, Operation},
};
use serde::de::DeserializeOwned;

/// Answers a review of a ServiceProfile or a TrafficPolicy.
pub(super) async fn answer(cluster_domain: &str, request: Request) -> Answer {
    let review = match read::<DynamicObject>(request).await {
        Ok(review) => review,
        Err(error) => return error.answer(),
    };
    let response = AdmissionResponse::from(&review);
    let faults = match faults(&review, cluster_domain) {
        Ok(faults) => faults,
        Err(error) => {
            let message = format!("cannot be read: {error}");
            return (Outcome::Denied, denied(response, StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &message));
        }
    };
    let said = |kind| faults.iter().filter(move |fault| fault.kind == kind).map(Fault::to_string);
    let invalid: Vec<_> = said(FaultKind::Invalid).collect();
    if invalid.is_empty() {
        return (Outcome::Allowed, allowed(response, said(FaultKind::UnsupportedField).collect()));
    }
    let message = invalid.join("; ");
    (Outcome::Denied, denied(response, StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &message))
}

/// Everything that is wrong with the object; nothing of one of another kind, or of one that is being deleted: to take
/// away its last finalizer is an update, too, and whoever does that cannot put its spec right.
fn faults(review: &AdmissionRequest<DynamicObject>, cluster_domain: &str) -> Result<Vec<Fault>, serde_json::Error> {
    let Some(object) = &review.object else { return Ok(Vec::new()) };
    if !matches!(review.operation, Operation::Create | Operation::Update) || review.sub_resource.is_some() {
        return Ok(Vec::new());
    }
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Vec::new());
    }
    match (review.kind.group.as_str(), review.kind.kind.as_str()) {
        (conduit_crds::GROUP, "ServiceProfile") => {
            Ok(profile::parse(&typed::<ServiceProfile>(review, object)?, cluster_domain).faults)
        }
        (conduit_crds::GROUP, "TrafficPolicy") => {
            Ok(policy::parse(&typed::<TrafficPolicy>(review, object)?).policy.faults)
        }
        _ => Ok(Vec::new()),
    }
}

/// The object as its own type. The namespace of the request counts where the object does not name one.
fn typed<T: DeserializeOwned>(
    review: &AdmissionRequest<DynamicObject>,
    object: &DynamicObject,
) -> Result<T, serde_json::Error> {
    let mut object = object.clone();
    object.metadata.namespace = object.metadata.namespace.or_else(|| review.namespace.clone());
    serde_json::from_value(serde_json::to_value(object)?)
}
