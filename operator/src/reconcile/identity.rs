//! Keeps the mesh's root and issuer in a Secret, or follows the issuer that a user has put into one, and hands on what signs.
//!
//! As with the serving certificate (`certificate.rs`), all replicas share what is in the Secret and none of them leads:
//! whoever finds something due writes it with the `resourceVersion` that it has read, and who loses that race reads again.
//! What is in the Secret counts. What this replica remembers is written back where the Secret holds nothing usable, so that
//! somebody who empties or deletes it does not change whom the mesh trusts; and a replica that remembers nothing gives the
//! others time to do so, before it makes a second root.

use super::{
    notices::{Certificate, Expiring, Notices},
    secret::{CHECK, Looks, POLL, entries, write},
};
use crate::issuer::{Issuer, Lifetimes, Read, Rotate, Settled, Stored, read, settle};
use conduit_model::TrustDomain;
use conduit_webhook_certs::{CertificateError, EntryError};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Name of the Secret with root and issuer, which the chart ships empty.
pub const SECRET: &str = "conduit-identity";
/// Annotation of that Secret: `root` or `issuer` is rotated now, and the annotation removed.
pub const ROTATE: &str = "conduit.io/rotate";

/// How long other replicas have to write back a Secret that is gone or spoiled.
const GRACE: Duration = Duration::from_secs(20);

/// Keeps what signs.
pub struct Identity {
    /// Secrets of the operator's namespace.
    pub secrets: Api<Secret>,
    /// Whose issuer it is.
    pub source: Source,
    /// Who hears of what signs; nothing until there is something.
    pub issuer: watch::Sender<Option<Arc<Issuer>>>,
    /// Where expiries are told.
    pub notices: Notices,
    /// The wall clock.
    pub now: fn() -> OffsetDateTime,
}

/// Whose issuer it is.
#[derive(Clone, Debug)]
pub enum Source {
    /// Conduit's own, made and rotated here.
    Ours(Lifetimes),
    /// A user's, which is followed and never written.
    Users {
        /// Name of the Secret.
        secret: String,
        /// What it has to be able to sign for.
        domain: TrustDomain,
    },
}

/// Why the Secret is not as it should be.
#[derive(Debug, thiserror::Error)]
enum IdentityTaskError {
    #[error(transparent)]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the issuer is missing from what was settled")]
    NoIssuer,
}

/// What a replica remembers between two looks at the Secret.
#[derive(Default)]
struct Memory {
    /// What was in the Secret last, or was written there.
    stored: Option<Stored>,
    /// Since when the Secret has been gone or spoiled, and nobody here remembers what it held.
    lost: Option<Instant>,
}

impl Identity {
    /// Keeps on until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let looks = |name, every| Looks::new(&self.secrets, name, every, self.now, shutdown);
        match &self.source {
            Source::Ours(lifetimes) => {
                let (mut looks, mut memory) = (looks(SECRET, CHECK), Memory::default());
                loop {
                    let converged = self.converge(lifetimes, &mut memory).await;
                    // What is renewed in time is nobody's concern; what cannot be is.
                    if converged.is_err() {
                        self.tell(SECRET, "Conduit renews it, and fails to: see the operator's log").await;
                    }
                    if !looks.wait(converged).await {
                        return;
                    }
                }
            }
            Source::Users { secret, domain } => {
                let mut looks = looks(secret, POLL);
                loop {
                    let followed = self.follow(secret, domain).await;
                    let advice = "Conduit does not renew what it did not make: put a new one into the Secret";
                    self.tell(secret, advice).await;
                    if !looks.wait(followed).await {
                        return;
                    }
                }
            }
        }
    }

    /// Makes the Secret what it should be, and hands on what signs. Gives the time until which there is nothing to do.
    async fn converge(&self, lifetimes: &Lifetimes, memory: &mut Memory) -> Result<OffsetDateTime, IdentityTaskError> {
        loop {
            let mut secret = self.secrets.get_opt(SECRET).await?;
            let held = entries(secret.as_ref());
            let Read { stored, faults } = read(&held);
            let (rotate, misunderstood) = match wanted(secret.as_ref()) {
                Ok(rotate) => (rotate, None),
                Err(fault) => (None, Some(fault)),
            };
            let stored = usable(stored, &faults, memory.stored.as_ref());
            let consequence = match faults.is_empty() {
                true => "nothing is rotated",
                false => "what cannot be used is written back or made anew",
            };
            let said: Vec<_> = faults.into_iter().chain(misunderstood).collect();
            self.notices.unusable(SECRET, secret.as_ref(), &said, consequence).await;
            let shipped_empty = secret.is_some() && held.is_empty();
            if stored.is_none() && !shipped_empty {
                let since = *memory.lost.get_or_insert_with(Instant::now);
                if since.elapsed() < GRACE {
                    tracing::warn!(
                        "Secret {SECRET} is gone or spoiled: waiting for a replica that remembers what it held"
                    );
                    return Ok((self.now)() + GRACE.saturating_sub(since.elapsed()));
                }
            }
            let Settled { stored, until, steps } = settle(stored, rotate, lifetimes, (self.now)())?;
            let wanted = stored.entries();
            let asked = rotate.is_some() && secret.as_mut().is_some_and(remove_annotation);
            let changed = asked || held != wanted;
            if changed && !write(&self.secrets, SECRET, secret, wanted).await? {
                // Somebody else wrote first, and what they wrote counts: nothing of this attempt is used.
                continue;
            }
            if !steps.is_empty() {
                tracing::info!(?steps, "the mesh's identity rotates");
                self.notices.rotated(&steps);
            }
            let issuer = Issuer::from_stored(&stored).ok_or(IdentityTaskError::NoIssuer)?;
            *memory = Memory { stored: Some(stored), lost: None };
            self.publish(issuer);
            return Ok(until);
        }
    }

    /// Hands on the issuer that the user's Secret holds; the one before stays where it holds none that can be used, or one
    /// that has expired already.
    async fn follow(&self, name: &str, domain: &TrustDomain) -> Result<OffsetDateTime, IdentityTaskError> {
        let secret = self.secrets.get_opt(name).await?;
        let now = (self.now)();
        let read = Issuer::from_secret(&entries(secret.as_ref()), domain, now);
        match read.and_then(|issuer| self.no_worse(issuer, now)) {
            Ok(issuer) => self.publish(issuer),
            Err(faults) => {
                let kept = match *self.issuer.borrow() {
                    Some(_) => "the issuer that was there before is used on",
                    None => "no certificates are issued",
                };
                self.notices.unusable(name, secret.as_ref(), &faults, kept).await;
            }
        }
        Ok(now + POLL)
    }

    /// `issuer`, unless it has expired and the one that is used has not.
    fn no_worse(&self, issuer: Issuer, now: OffsetDateTime) -> Result<Issuer, Vec<EntryError>> {
        let ends = issuer.validity().not_after;
        let signs = |known: &Arc<Issuer>| now < known.validity().not_after;
        match now >= ends && self.issuer.borrow().as_ref().is_some_and(signs) {
            true => {
                Err(vec![EntryError::new("tls.crt", format!("must be an issuer that is valid, has ended at {ends}"))])
            }
            false => Ok(issuer),
        }
    }

    fn publish(&self, issuer: Issuer) {
        self.notices.expires(Certificate::issuer, issuer.validity().not_after);
        self.notices.expires(Certificate::root, issuer.root_validity().not_after);
        self.issuer.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&issuer);
            if changed {
                let until = issuer.validity().not_after;
                tracing::info!(%until, roots = issuer.trust_bundle().roots().len(), "certificates are issued by a new issuer");
                *known = Some(Arc::new(issuer));
            }
            changed
        });
    }

    /// Tells how much is left of what signs now.
    async fn tell(&self, secret: &str, advice: &str) {
        let Some(issuer) = self.issuer.borrow().clone() else { return };
        let root = issuer.trust_bundle().roots().first();
        for (certificate, der, validity) in [
            (Certificate::issuer, Some(issuer.certificate().as_ref()), issuer.validity()),
            (Certificate::root, root.map(AsRef::as_ref), issuer.root_validity()),
        ] {
            let der = der.unwrap_or_default();
            self.notices.expiring(Expiring { secret, certificate, der, validity, advice }, (self.now)()).await;
        }
    }
}

/// What to go on with: what was read, unless nothing or only a part of it can be used and this replica remembers the whole.
fn usable(read: Option<Stored>, faults: &[EntryError], remembered: Option<&Stored>) -> Option<Stored> {
    match (read, remembered) {
        (None, remembered) => remembered.cloned(),
        (Some(read), Some(remembered)) if !faults.is_empty() && read.root.der() == remembered.root.der() => {
            Some(remembered.clone())
        }
        (read, _) => read,
    }
}

/// What the Secret's annotation asks for.
fn wanted(secret: Option<&Secret>) -> Result<Option<Rotate>, EntryError> {
    let annotations = secret.and_then(|secret| secret.metadata.annotations.as_ref());
    let value = annotations.and_then(|annotations| annotations.get(ROTATE));
    value.map(|value| value.parse()).transpose().map_err(|expected: String| EntryError::new(ROTATE, expected))
}

fn remove_annotation(secret: &mut Secret) -> bool {
    secret.metadata.annotations.as_mut().is_some_and(|annotations| annotations.remove(ROTATE).is_some())
}
