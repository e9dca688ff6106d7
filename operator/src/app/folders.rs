//! The operator without a cluster: discovery from manifests in a folder, tokens from a file, a root and an issuer made in
//! memory.
//!
//! It is for tests, benchmarks and local development. Where a cluster's service account is mounted it refuses to run: a
//! list of tokens is no identity there.

use super::{
    Flags,
    admin::{self, Condition, Readiness},
    mesh::{self, Listeners},
    tasks::Tasks,
};
use crate::{
    credential::TokensFile,
    index,
    issuer::{Issuer, Lifetimes, Settled, Stored, settle},
};
use anyhow::{Context, anyhow, ensure};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::watch;

/// Where Kubernetes mounts a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
pub(super) const TOKENS: &str = "tokens.yaml";
pub(super) const BUNDLE: &str = "ca.crt";
/// The clock is looked at this often.
const CHECK: Duration = Duration::from_secs(3600);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Runs the operator from folders.
///
/// # Errors
///
/// It could not start, or a part of it ended by itself.
pub(super) async fn run(flags: &Flags, manifests: &Path, identity: &Path) -> anyhow::Result<()> {
    refuse_in_cluster(Path::new(SERVICE_ACCOUNT))?;
    let mut tasks = Tasks::new();
    let mut registry = admin::registry();

    let index = super::index(flags);
    let (watched, folder) = (index.clone(), manifests.to_owned());
    tasks.spawn_until_closing("the manifests", async move {
        if let Err(error) = index::manifests::run(&watched, &folder).await {
            tracing::error!(%error, "manifests are not read any more");
        }
    });

    let lifetimes = flags.identity.lifetimes().map_err(|fault| anyhow!("{fault}"))?;
    let (issuer, issuing) = watch::channel(None);
    let mut authority = Authority::new(lifetimes, identity, issuer);
    let mut until = authority.settle(OffsetDateTime::now_utc()).await?;
    tasks.spawn_until_closing("the issuer", async move {
        loop {
            tokio::time::sleep(wait(until - OffsetDateTime::now_utc())).await;
            let now = OffsetDateTime::now_utc();
            until = authority.settle(now).await.unwrap_or_else(|error| {
                tracing::error!(%error, "the issuer could not be kept; trying again");
                now + RETRY
            });
        }
    });
    let parts = mesh::Parts {
        index: index.clone(),
        credentials: Arc::new(TokensFile::new(identity.join(TOKENS))),
        issuer: issuing,
        lifetimes,
        // The file is all that anybody hears of.
        bundle: watch::Sender::new(None),
        served_until: Box::new(|_| {}),
    };
    let listeners = Listeners::bind(flags).await?;
    let mesh = mesh::start(&mut tasks, flags, &mut registry, listeners, parts)?;

    let mut conditions = vec![Condition::new("the manifests are not read", move || index.synced())];
    conditions.extend(mesh.conditions);
    let readiness = Readiness::new(conditions);
    let admin = admin::router(readiness.clone(), registry);
    super::serve_admin(&mut tasks, flags, admin).await?;
    tasks.run(Duration::ZERO, || readiness.drain()).await
}

fn refuse_in_cluster(service_account: &Path) -> anyhow::Result<()> {
    ensure!(
        !service_account.exists(),
        "--manifests takes tokens from a file and must not be used in a cluster, and a cluster's service account is \
         mounted at {}",
        service_account.display()
    );
    Ok(())
}

/// The time to wait: until something is due, but never longer than [`CHECK`], and never nothing at all.
fn wait(due: time::Duration) -> Duration {
    Duration::try_from(due).unwrap_or_default().clamp(Duration::from_secs(1), CHECK)
}

/// The root and the issuer that this process made, and the file by which proxies trust them.
pub(super) struct Authority {
    lifetimes: Lifetimes,
    bundle: PathBuf,
    stored: Option<Stored>,
    issuer: watch::Sender<Option<Arc<Issuer>>>,
}

impl Authority {
    /// One that has made nothing yet, and tells `issuer` of what it makes.
    pub(super) fn new(lifetimes: Lifetimes, identity: &Path, issuer: watch::Sender<Option<Arc<Issuer>>>) -> Self {
        Self { lifetimes, bundle: identity.join(BUNDLE), stored: None, issuer }
    }

    /// Makes what is due at `now`, writes the bundle, and signs with it. Gives the time until which there is nothing to do.
    pub(super) async fn settle(&mut self, now: OffsetDateTime) -> anyhow::Result<OffsetDateTime> {
        let Settled { stored, until, steps } = settle(self.stored.clone(), None, &self.lifetimes, now)?;
        if !steps.is_empty() {
            tracing::info!(?steps, file = %self.bundle.display(), "the identity of the mesh rotates");
            let issuer = Issuer::from_stored(&stored).context("nothing signs")?;
            self.publish(&issuer.trust_bundle().to_pem()).await?;
            self.issuer.send_replace(Some(Arc::new(issuer)));
        }
        self.stored = Some(stored);
        Ok(until)
    }

    /// Replaces the file whole: a client that reads it meanwhile sees the old or the new one.
    async fn publish(&self, bundle: &str) -> anyhow::Result<()> {
        let new = self.bundle.with_extension("crt.new");
        let failed = || format!("cannot write the trust bundle to {}", self.bundle.display());
        tokio::fs::write(&new, bundle).await.with_context(failed)?;
        tokio::fs::rename(&new, &self.bundle).await.with_context(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tokens_is_refused_where_a_service_account_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refuse_in_cluster(&folder.path().join("absent")).is_ok());
        let error = refuse_in_cluster(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("--manifests takes tokens from a file and must not be used in a cluster"), "{error}");
    }

    #[tokio::test]
    async fn the_bundle_is_written_before_anything_is_signed_and_stays_while_nothing_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join(BUNDLE);
        let (issuer, issuing) = watch::channel(None);
        let mut authority = Authority::new(Lifetimes::default(), folder.path(), issuer);
        let now = OffsetDateTime::now_utc();
        let until = authority.settle(now).await.unwrap();
        assert!(until > now + time::Duration::days(30));
        let written = std::fs::read_to_string(&bundle).unwrap();
        let issuer: Arc<Issuer> = issuing.borrow().clone().unwrap();
        assert_eq!(issuer.trust_bundle().to_pem(), written);
        authority.settle(now).await.unwrap();
        assert_eq!(std::fs::read_to_string(&bundle).unwrap(), written);
        authority.settle(until).await.unwrap();
        assert_ne!(issuing.borrow().clone().unwrap(), issuer, "it was renewed");
    }

    #[tokio::test]
    async fn nothing_is_signed_where_the_bundle_cannot_be_written() {
        let (issuer, issuing) = watch::channel(None);
        let mut authority = Authority::new(Lifetimes::default(), Path::new("nowhere"), issuer);
        let error = authority.settle(OffsetDateTime::now_utc()).await.unwrap_err().to_string();
        assert_eq!(error, "cannot write the trust bundle to nowhere/ca.crt");
        assert!(issuing.borrow().is_none());
    }
}
