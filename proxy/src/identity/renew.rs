//! Keeps the proxy certified: a certificate at the start, the next one before the last is over, and one out of turn where
//! another root signs than the one that its own certificate leads to, or where the certificate proves nothing any more: it
//! leads to no root that is trusted, or the operator refuses it.
//!
//! Every attempt makes a new key, which is held by nobody but the credentials that it ends up in. An operator that cannot
//! be reached is tried for ever, in pauses that stay short: a proxy whose certificate is over can do nothing else.
//!
//! Time is looked at, not only waited for: the clock that certificates count by goes on while a machine sleeps, and the
//! timer does not.

use super::{
    bundle::{BundleError, TrustBundle},
    certificate::{CertificateFault, rfc3339},
    certify::{CertifyError, IdentityService},
    credentials::{Credentials, CredentialsError},
    holder::Identity,
    schedule::{Life, Worth, pause},
};
use conduit_model::{SpiffeId, wire::identity::CertifyResponse};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::sleep;

/// How long the timer is trusted at most.
const LOOK: Duration = Duration::from_secs(60);

/// Why an attempt gave no certificate that can be used.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    /// The operator gave none.
    #[error("{0}")]
    Certify(#[from] CertifyError),
    /// No key could be made.
    #[error("no key: {0}")]
    Key(#[from] rcgen::Error),
    /// The bundle that came with it cannot be read.
    #[error("the operator's answer: trust_bundle{0}")]
    Bundle(#[from] BundleError),
    /// It is not one of this workload's, or not for its key.
    #[error("the operator's answer: certificate_chain: {0}")]
    Credentials(#[from] CredentialsError),
    /// It does not lead to the bundle that came with it.
    #[error("the operator's answer: certificate_chain: {0}")]
    Chain(#[from] CertificateFault),
    /// It names another workload than the last one did, which a pod never becomes.
    #[error("the operator's answer: certificate_chain: expected {expected}, found {found}")]
    Changed { expected: SpiffeId, found: SpiffeId },
}

/// Asks `service` for certificates of `identity` for as long as it is polled.
pub async fn run(identity: Arc<Identity>, service: IdentityService) {
    let (identity, service) = (&identity, &service);
    let certify = async |request: Vec<u8>| {
        let current = identity.credentials();
        let bundle = current.as_deref().map(|credentials| &**credentials.bundle());
        service.certify(request, bundle, identity.clock()).await
    };
    keep(identity, certify, fastrand::f64).await
}

async fn keep(
    identity: &Identity,
    certify: impl AsyncFn(Vec<u8>) -> Result<CertifyResponse, CertifyError>,
    chance: impl Fn() -> f64,
) {
    let mut failures: u32 = 0;
    loop {
        match attempt(identity, &certify).await {
            Ok(taken) => {
                failures = 0;
                due(identity, taken, chance()).await;
            }
            Err(e) => {
                failures = failures.saturating_add(1);
                report(identity, &e);
                sleep(pause(failures, chance())).await;
            }
        }
    }
}

/// Gets one certificate and puts it into force; when it was taken.
async fn attempt(
    identity: &Identity,
    certify: &impl AsyncFn(Vec<u8>) -> Result<CertifyResponse, CertifyError>,
) -> Result<SystemTime, AttemptError> {
    let key = KeyPair::generate()?;
    // Whom the certificate is for, the token says.
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?.der().to_vec();
    let response = certify(request).await?;

    let credentials = take(identity, &key, response)?;
    let (id, not_after) = (credentials.id().clone(), credentials.not_after());
    identity.set(credentials)?;
    tracing::info!(%id, expires = rfc3339(not_after), "identity: certified");
    Ok(identity.now())
}

/// Reads the operator's answer: all of it must hold together before any of it is used.
fn take(identity: &Identity, key: &KeyPair, response: CertifyResponse) -> Result<Credentials, AttemptError> {
    let CertifyResponse { certificate_chain, trust_bundle } = response;
    let bundle = Arc::new(TrustBundle::from_der(trust_bundle)?);
    let chain = certificate_chain.into_iter().map(CertificateDer::from).collect();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let credentials = Credentials::new(identity.trust_domain().clone(), chain, key, bundle, identity.clock().clone())?;
    credentials.verify_own()?;
    match identity.credentials() {
        Some(last) if last.id() != credentials.id() => {
            Err(AttemptError::Changed { expected: last.id().clone(), found: credentials.id().clone() })
        }
        Some(_) | None => Ok(credentials),
    }
}

/// Waits until the certificate that was taken at `taken` is to be renewed.
async fn due(identity: &Identity, taken: SystemTime, chance: f64) {
    let mut progress = identity.progress();
    let refusals = progress.borrow().refusals;
    let mut worth = Worth::Current;
    loop {
        let refused = progress.borrow_and_update().refusals != refusals;
        let Some(credentials) = identity.credentials() else { return };
        let (now, life) = (identity.now(), Life { taken, not_after: credentials.not_after(), chance });
        worth = match (credentials.verify_own(), worth) {
            (Err(_), Worth::Nothing(since)) => Worth::Nothing(since),
            (Ok(_), Worth::Nothing(since)) if refused => Worth::Nothing(since),
            (Err(_), _) => Worth::Nothing(now),
            (Ok(_), _) if refused => Worth::Nothing(now),
            (Ok(0), _) => Worth::Current,
            (Ok(_), Worth::Outdated(since)) => Worth::Outdated(since),
            (Ok(_), _) => Worth::Outdated(now),
        };
        let Ok(left) = life.renewal(worth).duration_since(now) else { return };
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = sleep(left.min(LOOK)) => {}
            // The identity is held, so that this ends with a change only: a bundle, maybe.
            _ = progress.changed() => {}
        }
    }
}

/// Says why there is no new certificate: loudly where that is news, and once more where the last one is over.
fn report(identity: &Identity, error: &AttemptError) {
    let reason = error.to_string();
    let news = identity.failed(&reason);
    let now = identity.now();
    match identity.credentials() {
        _ if !news => tracing::debug!("identity: no certificate: {reason}"),
        None => tracing::warn!("identity: no certificate yet: {reason}"),
        Some(last) if last.is_expired(now) => {
            let expired = rfc3339(last.not_after());
            tracing::error!(expired, "identity: no connections of the mesh until there is a certificate: {reason}");
        }
        Some(last) => tracing::warn!(expires = rfc3339(last.not_after()), "identity: no new certificate: {reason}"),
    }
}

#[cfg(test)]
#[path = "renew_tests.rs"]
mod tests;
