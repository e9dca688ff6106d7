//! What the identity service counts.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// The metrics of the identity service. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(super) issued: Counter,
    pub(super) refused: Family<RefusalLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusalLabels {
    pub reason: Reason,
}

/// Why a certificate was not issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub(super) enum Reason {
    no_token,
    token_refused,
    token_unchecked,
    other_service_account,
    request,
    no_issuer,
    issuer_expired,
    too_many_calls,
    failed,
}

impl Metrics {
    /// Puts the metrics into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "conduit_identity_certificates_issued",
            "Certificates that proxies were given",
            self.issued.clone(),
        );
        registry.register(
            "conduit_identity_certificate_requests_refused",
            "Requests for a certificate that were refused",
            self.refused.clone(),
        );
    }
}
