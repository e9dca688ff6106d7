//! Secrets that this room reads and writes: looked at when they change, when something is due, and once in a while anyway.
//! Must not know what they hold.

use conduit_webhook_certs::Entries;
use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, watch_object},
    },
};
use std::{fmt::Display, time::Duration};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// The clock is looked at this often where Conduit renews: a wall clock may jump, and certificates end by it.
pub(super) const CHECK: Duration = Duration::from_secs(3600);
/// How often a Secret that others write is read, should the watch have missed something.
pub(super) const POLL: Duration = Duration::from_secs(60);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// When to look at a Secret again.
pub(super) struct Looks {
    changes: BoxStream<'static, Result<Option<Secret>, watcher::Error>>,
    name: String,
    every: Duration,
    now: fn() -> OffsetDateTime,
}

impl Looks {
    /// At the Secret of this name, `every` so often at least, until `shutdown`.
    pub(super) fn new(
        secrets: &Api<Secret>,
        name: &str,
        every: Duration,
        now: fn() -> OffsetDateTime,
        shutdown: CancellationToken,
    ) -> Self {
        let changes = watch_object(secrets.clone(), name).default_backoff().take_until(shutdown.cancelled_owned());
        Self { changes: changes.boxed(), name: name.to_owned(), every, now }
    }

    /// Waits until the Secret changes, until what the last look has found to be due, or for a while after it has failed.
    /// False at the end.
    pub(super) async fn wait<E: Display>(&mut self, last: Result<OffsetDateTime, E>) -> bool {
        let Self { changes, name, every, now } = self;
        let wait = match last {
            Ok(until) => wait(until - now(), *every),
            Err(error) => {
                tracing::error!(%error, "Secret {name} could not be kept as it should be; trying again");
                RETRY
            }
        };
        match tokio::time::timeout(wait, changes.next()).await {
            Ok(None) => return false,
            Ok(Some(Err(error))) => tracing::warn!(%error, "cannot watch Secret {name}"),
            Ok(Some(Ok(_))) | Err(_) => {}
        }
        true
    }
}

/// The entries of a Secret; none where there is none.
pub(super) fn entries(secret: Option<&Secret>) -> Entries {
    let data = secret.and_then(|secret| secret.data.as_ref());
    data.into_iter().flatten().map(|(name, value)| (name.clone(), value.0.clone())).collect()
}

/// Writes the entries over `secret` as it was read; false where it has changed since, and what is there now counts.
pub(super) async fn write(
    secrets: &Api<Secret>,
    name: &str,
    secret: Option<Secret>,
    entries: Entries,
) -> kube::Result<bool> {
    let data = Some(entries.into_iter().map(|(name, value)| (name, ByteString(value))).collect());
    let written = match secret {
        Some(secret) => secrets.replace(name, &PostParams::default(), &Secret { data, ..secret }).await,
        None => {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            let secret = Secret { metadata, data, type_: Some("Opaque".to_owned()), ..Secret::default() };
            secrets.create(&PostParams::default(), &secret).await
        }
    };
    match written {
        Ok(_) => {
            tracing::info!("wrote Secret {name}");
            Ok(true)
        }
        // 404: deleted in between; 409: changed or created in between.
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

/// The time to wait: until something is due, but never longer than `every`, and never nothing at all.
fn wait(due: time::Duration, every: Duration) -> Duration {
    Duration::try_from(due).unwrap_or_default().clamp(Duration::from_secs(1), every)
}
