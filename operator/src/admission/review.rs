//! An AdmissionReview off the wire, and back on it. Must not know what is reviewed.

use super::{Answer, metrics::Outcome};
use axum::{
    Json,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::core::{
    Resource, Status,
    admission::{AdmissionRequest, AdmissionResponse, AdmissionReview},
};
use serde::de::DeserializeOwned;

/// Bytes of a body at most. The API server takes objects up to 3 MiB and sends an update's old object along.
pub(super) const BODY_LIMIT: usize = 8 * 1024 * 1024;

/// Why a request is no review. The API server never sends such a thing; somebody else does, or a proxy in between.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReviewError {
    #[error("content type must be application/json, is {0:?}")]
    ContentType(String),
    #[error("a body must have at most {BODY_LIMIT} bytes")]
    TooLarge,
    #[error("the body ended early: {0}")]
    Body(String),
    #[error("must be an AdmissionReview of admission.k8s.io/v1: {0}")]
    Syntax(serde_json::Error),
    #[error("must be an AdmissionReview of admission.k8s.io/v1, is {kind} of {version}")]
    Version { kind: String, version: String },
    #[error("request: must be there")]
    NoRequest,
}

impl ReviewError {
    fn status(&self) -> StatusCode {
        match self {
            Self::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(_) | Self::Syntax(_) | Self::Version { .. } | Self::NoRequest => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer to such a request.
    pub(super) fn answer(self) -> Answer {
        tracing::warn!(reason = %self, "a request to a webhook was no review");
        (Outcome::Malformed, (self.status(), format!("{self}\n")).into_response())
    }
}

/// Reads the review of a request.
pub(super) async fn read<T>(request: Request) -> Result<AdmissionRequest<T>, ReviewError>
where
    T: Resource + DeserializeOwned,
{
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !essence.eq_ignore_ascii_case(b"application/json") {
        return Err(ReviewError::ContentType(String::from_utf8_lossy(content_type).into_owned()));
    }
    let body = match Limited::new(request.into_body(), BODY_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(ReviewError::TooLarge),
        Err(error) => return Err(ReviewError::Body(error.to_string())),
    };
    let review: AdmissionReview<T> = serde_json::from_slice(&body).map_err(ReviewError::Syntax)?;
    if review.types.api_version != "admission.k8s.io/v1" || review.types.kind != "AdmissionReview" {
        return Err(ReviewError::Version { kind: review.types.kind, version: review.types.api_version });
    }
    review.try_into().map_err(|_| ReviewError::NoRequest)
}

/// The answer that allows what was asked, as it is.
pub(super) fn allowed(response: AdmissionResponse, warnings: Vec<String>) -> Response {
    let warnings = Some(warnings).filter(|warnings| !warnings.is_empty());
    let mut response = response;
    response.warnings = warnings;
    Json(response.into_review()).into_response()
}

/// The answer that refuses it with `message`; `code` is the HTTP status that the user's client gets.
pub(super) fn denied(mut response: AdmissionResponse, code: StatusCode, reason: &str, message: &str) -> Response {
    response.allowed = false;
    response.result = Status::failure(message, reason).with_code(code.as_u16());
    Json(response.into_review()).into_response()
}
