//! Keeps the webhooks' serving identity in a Secret, or follows the one that a user has put into another, and what is served
//! equal to it.
//!
//! All replicas share one identity through the Secret. None of them leads: whoever finds something to do writes it with
//! the `resourceVersion` that it has read, and who loses that race reads again. (A Lease would not fence a writer that
//! was asleep.) What is in the Secret counts; what this replica remembers is written back only where the Secret holds
//! nothing usable, so that somebody who empties or deletes it does not change whom the mesh trusts.

use super::{
    notices::{Certificate, Expiring, Notices},
    secret::{CHECK, Looks, POLL, entries, write},
};
use crate::issuer::Validity;
use conduit_webhook_certs::{
    CertificateError, EntryError, Leaf, OwnCertificate, Read, ServingCertificate, Settled, Stored, read, settle,
};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use std::{collections::BTreeSet, sync::Arc};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Name of the Secret, which the chart ships empty.
pub const SECRET: &str = "conduit-webhook-certs";

/// Keeps the Secret and what is served equal.
pub struct Certificates {
    /// Secrets of the operator's namespace.
    pub secrets: Api<Secret>,
    /// Whose certificate it is.
    pub source: Source,
    /// What is served.
    pub serving: Arc<ServingCertificate>,
    /// Who hears of the authorities to trust, in PEM; nothing until they are known.
    pub bundle: watch::Sender<Option<Arc<str>>>,
    /// Where expiries are told.
    pub notices: Notices,
    /// The wall clock.
    pub now: fn() -> OffsetDateTime,
}

/// Whose certificate it is.
#[derive(Clone, Debug)]
pub enum Source {
    /// Conduit's own, made and rotated here.
    Ours {
        /// Names that the certificate has to be valid for.
        names: BTreeSet<String>,
    },
    /// A user's, which is followed and never written.
    Users {
        /// Name of the Secret.
        secret: String,
        /// The name that the API server asks for.
        name: String,
    },
}

/// Why the Secret is not as it should be.
#[derive(Debug, thiserror::Error)]
enum CertificateTaskError {
    #[error(transparent)]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Certificates {
    /// Keeps on until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let looks = |name, every| Looks::new(&self.secrets, name, every, self.now, shutdown);
        // What is served, for telling how much of its life is left.
        let mut served = None;
        match &self.source {
            Source::Ours { names } => {
                let (mut looks, mut remembered) = (looks(SECRET, CHECK), None);
                loop {
                    let converged = self.converge(names, &mut remembered, &mut served).await;
                    // What is renewed in time is nobody's concern; what cannot be is.
                    if converged.is_err() {
                        let advice = "Conduit renews it, and fails to: see the operator's log";
                        self.tell(SECRET, served.as_ref(), advice).await;
                    }
                    if !looks.wait(converged).await {
                        return;
                    }
                }
            }
            Source::Users { secret, name } => {
                let mut looks = looks(secret, POLL);
                loop {
                    let followed = self.follow(secret, name, &mut served).await;
                    let advice = "Conduit does not renew what it did not make: put a new one into the Secret";
                    self.tell(secret, served.as_ref(), advice).await;
                    if !looks.wait(followed).await {
                        return;
                    }
                }
            }
        }
    }

    /// Makes the Secret what it should be, and serves it. Gives the time until which there is nothing to do.
    async fn converge(
        &self,
        names: &BTreeSet<String>,
        remembered: &mut Option<Stored>,
        served: &mut Option<Leaf>,
    ) -> Result<OffsetDateTime, CertificateTaskError> {
        loop {
            let secret = self.secrets.get_opt(SECRET).await?;
            let held = entries(secret.as_ref());
            let Read { stored, faults } = read(&held);
            let repaired = "what cannot be used is written back or made anew";
            self.notices.unusable(SECRET, secret.as_ref(), &faults, repaired).await;
            let known = stored.or_else(|| remembered.clone());
            let Settled { stored, until, steps } = settle(known, names, (self.now)())?;
            let wanted = stored.entries();
            if held != wanted && !write(&self.secrets, SECRET, secret, wanted).await? {
                // Somebody else wrote first, and what they wrote counts: nothing of this attempt is served.
                continue;
            }
            if !steps.is_empty() {
                tracing::info!(?steps, "the serving certificate rotates");
            }
            if let Some(leaf) = &stored.leaf {
                self.serve(leaf, served, stored.bundle())?;
            }
            *remembered = Some(stored);
            return Ok(until);
        }
    }

    /// Serves what the user's Secret holds; the certificate before stays where it holds none that can be used, or one that
    /// has expired already.
    async fn follow(
        &self,
        secret_name: &str,
        name: &str,
        served: &mut Option<Leaf>,
    ) -> Result<OffsetDateTime, CertificateTaskError> {
        let secret = self.secrets.get_opt(secret_name).await?;
        let now = (self.now)();
        let read = OwnCertificate::read(&entries(secret.as_ref()), name, now);
        match read.and_then(|own| no_worse(own, served.as_ref(), now)) {
            Ok(OwnCertificate { leaf, bundle }) => self.serve(&leaf, served, bundle)?,
            Err(faults) => {
                let kept = match served {
                    Some(_) => "the certificate that was there before is served on",
                    None => "webhooks are not served",
                };
                self.notices.unusable(secret_name, secret.as_ref(), &faults, kept).await;
            }
        }
        Ok(now + POLL)
    }

    fn serve(&self, leaf: &Leaf, served: &mut Option<Leaf>, bundle: String) -> Result<(), CertificateError> {
        self.serving.serve(leaf)?;
        self.notices.expires(Certificate::webhook, leaf.not_after());
        *served = Some(leaf.clone());
        self.bundle.send_if_modified(|known| {
            let changed = known.as_deref() != Some(bundle.as_str());
            if changed {
                *known = Some(bundle.into());
            }
            changed
        });
        Ok(())
    }

    /// Tells how much is left of what is served.
    async fn tell(&self, secret: &str, served: Option<&Leaf>, advice: &str) {
        let Some(leaf) = served else { return };
        let validity = Validity { not_before: leaf.not_before(), not_after: leaf.not_after() };
        let (certificate, der) = (Certificate::webhook, leaf.chain()[0].as_ref());
        self.notices.expiring(Expiring { secret, certificate, der, validity, advice }, (self.now)()).await;
    }
}

/// What was read, unless it has expired and what is served has not.
fn no_worse(
    own: OwnCertificate,
    served: Option<&Leaf>,
    now: OffsetDateTime,
) -> Result<OwnCertificate, Vec<EntryError>> {
    let ends = own.leaf.not_after();
    match now >= ends && served.is_some_and(|served| now < served.not_after()) {
        true => {
            Err(vec![EntryError::new("tls.crt", format!("must be a certificate that is valid, has ended at {ends}"))])
        }
        false => Ok(own),
    }
}
