//! What users hear of the certificates that everything hangs on: a metric for each expiry, and Events on the Secret where
//! nobody but they can do something.
//!
//! Every replica sees the same and none of them leads. So an Event's name follows from what it says: whoever comes second
//! finds it there. Must not renew anything.

use super::expiry::Mark;
use crate::issuer::{Step, Validity};
use conduit_webhook_certs::EntryError;
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Secret},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const CONTROLLER: &str = "conduit-operator";
/// The API server takes no longer note, in bytes.
const LONGEST_NOTE: usize = 1024;

/// A certificate whose end concerns the whole mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, missing_docs, reason = "values of a label")]
pub enum Certificate {
    root,
    issuer,
    webhook,
    serving,
}

/// Tells of certificates. Clones tell together.
#[derive(Clone)]
pub struct Notices {
    events: Api<Event>,
    namespace: Arc<str>,
    instance: Arc<str>,
    /// By Secret and subject: the name of the Event that was written last.
    told: Arc<Mutex<BTreeMap<String, String>>>,
    expirations: Family<ExpirationLabels, Gauge>,
    rotations: Family<RotationLabels, Counter>,
    faults: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExpirationLabels {
    certificate: Certificate,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RotationLabels {
    step: &'static str,
}

/// A certificate that ends, and who could renew it.
pub(super) struct Expiring<'a> {
    pub(super) secret: &'a str,
    pub(super) certificate: Certificate,
    /// The certificate, by which it is told from the one before.
    pub(super) der: &'a [u8],
    pub(super) validity: Validity,
    /// What has to be done, and by whom.
    pub(super) advice: &'a str,
}

/// What an Event says.
struct Said<'a> {
    secret: &'a str,
    /// What it is about: of one subject the newest Event counts.
    subject: &'a str,
    name: String,
    warning: bool,
    reason: &'static str,
    note: String,
}

impl Notices {
    /// Events go to `namespace`, where the Secrets are; `instance` names this replica.
    pub fn new(client: Client, namespace: &str, instance: &str) -> Self {
        Self {
            events: Api::namespaced(client, namespace),
            namespace: namespace.into(),
            instance: instance.into(),
            told: Arc::default(),
            expirations: Family::default(),
            rotations: Family::default(),
            faults: Counter::default(),
        }
    }

    /// Puts the metrics into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "conduit_identity_certificate_expiration_timestamp_seconds",
            "When a certificate of the control plane ends, in seconds since 1970",
            self.expirations.clone(),
        );
        registry.register(
            "conduit_identity_rotations",
            "Steps of rotation that this replica made",
            self.rotations.clone(),
        );
        registry.register(
            "conduit_identity_secret_faults",
            "Entries of the Secrets with certificates that could not be used when they were read",
            self.faults.clone(),
        );
    }

    /// Says when a certificate ends, from now on.
    pub fn expires(&self, certificate: Certificate, at: OffsetDateTime) {
        self.expirations.get_or_create(&ExpirationLabels { certificate }).set(at.unix_timestamp());
    }

    /// Counts the steps that this replica has made.
    pub(super) fn rotated(&self, steps: &[Step]) {
        for step in steps {
            self.rotations.get_or_create(&RotationLabels { step: step.as_str() }).inc();
        }
    }

    /// Tells of a certificate whose life has passed a mark at `now`.
    pub(super) async fn expiring(&self, expiring: Expiring<'_>, now: OffsetDateTime) {
        let Expiring { secret, certificate, der, validity, advice } = expiring;
        let Some(mark) = Mark::passed(validity, now) else { return };
        let subject = format!("{certificate:?}");
        let end = validity.not_after.format(&Rfc3339).unwrap_or_else(|_| validity.not_after.to_string());
        let said = Said {
            secret,
            subject: &subject,
            name: format!("{secret}.{certificate:?}.{}.{}", fingerprint(&[der]), mark.as_str()),
            warning: mark.is_urgent(),
            reason: "CertificateExpiring",
            note: format!("the {certificate:?} certificate is valid until {end}: {}; {advice}", mark.left()),
        };
        self.tell(said).await;
    }

    /// Tells that a Secret holds something that cannot be used, and what becomes of that.
    pub(super) async fn unusable(&self, name: &str, secret: Option<&Secret>, faults: &[EntryError], consequence: &str) {
        let Ok(count) = u64::try_from(faults.len()) else { return };
        self.faults.inc_by(count);
        if faults.is_empty() {
            return;
        }
        let version = secret.and_then(|secret| secret.metadata.resource_version.as_deref()).unwrap_or_default();
        let faults = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let said = Said {
            secret: name,
            subject: "unusable",
            name: format!("{name}.unusable.{}", fingerprint(&[version.as_bytes(), faults.as_bytes()])),
            warning: true,
            reason: "UnusableSecret",
            note: format!("{faults}; {consequence}"),
        };
        self.tell(said).await;
    }

    /// Logs and writes an Event, once.
    async fn tell(&self, Said { secret, subject, name, warning, reason, note }: Said<'_>) {
        let subject = format!("{secret}/{subject}");
        if self.told().get(&subject) == Some(&name) {
            return;
        }
        if warning {
            tracing::error!(secret, reason, "{note}");
        } else {
            tracing::warn!(secret, reason, "{note}");
        }
        let event = Event {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            action: Some("Renewing".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(note[..note.floor_char_boundary(LONGEST_NOTE)].to_owned()),
            reason: Some(reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Secret".into()),
                name: Some(secret.to_owned()),
                namespace: Some(self.namespace.to_string()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.to_string()),
            type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        match self.events.create(&PostParams::default(), &event).await {
            Ok(_) => {}
            // Another replica has told it.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                tracing::warn!(%error, secret, "an event could not be written; trying again");
                return;
            }
        }
        self.told().insert(subject, name);
    }

    fn told(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A few digits that differ where the parts do, for the name of an object.
fn fingerprint(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}
