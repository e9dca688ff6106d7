//! Keeps the operator's serving identity in a Secret, and what is served equal to it.
//!
//! All replicas share one identity through the Secret. None of them leads: whoever finds something to do writes it with
//! the `resourceVersion` that it has read, and who loses that race reads again. (A Lease would not fence a writer that
//! was asleep.) What is in the Secret counts; what this replica remembers is written back only where the Secret holds
//! nothing usable, so that somebody who empties or deletes it does not change whom the mesh trusts.

use conduit_webhook_certs::{CertificateError, Entries, Read, ServingCertificate, Settled, Stored, read, settle};
use futures::StreamExt;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt, watcher::watch_object},
};
use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Name of the Secret, which the chart ships empty.
pub const SECRET: &str = "conduit-webhook-certs";

/// The clock is looked at this often: a wall clock may jump, and certificates end by it.
const CHECK: Duration = Duration::from_secs(3600);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the Secret and what is served equal.
pub struct Certificates {
    /// Secrets of the operator's namespace.
    pub secrets: Api<Secret>,
    /// Names that the certificate has to be valid for.
    pub names: BTreeSet<String>,
    /// What is served.
    pub serving: Arc<ServingCertificate>,
    /// Who hears of the authorities to trust, in PEM; nothing until they are known.
    pub bundle: watch::Sender<Option<Arc<str>>>,
    /// The wall clock.
    pub now: fn() -> OffsetDateTime,
}

/// Why the Secret is not as it should be.
#[derive(Debug, thiserror::Error)]
enum CertificateTaskError {
    #[error("Secret {SECRET}: {0}")]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Certificates {
    /// Keeps on until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let changes = watch_object(self.secrets.clone(), SECRET).default_backoff().take_until(shutdown.cancelled());
        let mut changes = pin!(changes);
        let mut remembered = None;
        loop {
            let wait = match self.converge(&mut remembered).await {
                Ok(until) => wait(until - (self.now)()),
                Err(error) => {
                    tracing::error!(%error, "the serving certificate could not be kept; trying again");
                    RETRY
                }
            };
            match tokio::time::timeout(wait, changes.next()).await {
                Ok(None) => return,
                Ok(Some(Err(error))) => tracing::warn!(%error, "cannot watch Secret {SECRET}"),
                Ok(Some(Ok(_))) | Err(_) => {}
            }
        }
    }

    /// Makes the Secret what it should be, and serves it. Gives the time until which there is nothing to do.
    async fn converge(&self, remembered: &mut Option<Stored>) -> Result<OffsetDateTime, CertificateTaskError> {
        loop {
            let secret = self.secrets.get_opt(SECRET).await?;
            let held = entries(secret.as_ref());
            let Read { stored, faults } = read(&held);
            for fault in faults {
                tracing::error!(%fault, "an entry of Secret {SECRET} cannot be used, and is made anew");
            }
            let Settled { stored, until, steps } = settle(stored.or(remembered.take()), &self.names, (self.now)())?;
            if !steps.is_empty() {
                tracing::info!(?steps, "the serving certificate rotates");
            }
            let wanted = stored.entries();
            *remembered = Some(stored);
            if held == wanted || self.write(secret, wanted).await? {
                self.serve(remembered.as_ref())?;
                return Ok(until);
            }
            // Somebody else wrote first, and what they wrote counts: nothing of this attempt was served.
            *remembered = None;
        }
    }

    /// Writes the entries over `secret` as it was read; false where it has changed since.
    async fn write(&self, secret: Option<Secret>, entries: Entries) -> Result<bool, kube::Error> {
        let data = Some(entries.into_iter().map(|(name, value)| (name, ByteString(value))).collect());
        let written = match secret {
            Some(secret) => self.secrets.replace(SECRET, &PostParams::default(), &Secret { data, ..secret }).await,
            None => {
                let metadata = ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() };
                let secret = Secret { metadata, data, type_: Some("Opaque".to_owned()), ..Secret::default() };
                self.secrets.create(&PostParams::default(), &secret).await
            }
        };
        match written {
            Ok(_) => {
                tracing::info!("wrote the serving certificate to Secret {SECRET}");
                Ok(true)
            }
            // 404: deleted in between; 409: changed or created in between.
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn serve(&self, stored: Option<&Stored>) -> Result<(), CertificateError> {
        let Some(stored) = stored else { return Ok(()) };
        if let Some(leaf) = &stored.leaf {
            self.serving.serve(leaf)?;
        }
        let bundle = stored.bundle();
        self.bundle.send_if_modified(|known| {
            let changed = known.as_deref() != Some(bundle.as_str());
            if changed {
                *known = Some(bundle.into());
            }
            changed
        });
        Ok(())
    }
}

fn entries(secret: Option<&Secret>) -> Entries {
    let data = secret.and_then(|secret| secret.data.as_ref());
    data.into_iter().flatten().map(|(name, value)| (name.clone(), value.0.clone())).collect()
}

/// The time to wait: until something is due, but never longer than [`CHECK`], and never nothing at all.
fn wait(due: time::Duration) -> Duration {
    Duration::try_from(due).unwrap_or_default().clamp(Duration::from_secs(1), CHECK)
}
