//! The operator without a cluster: discovery from manifests in a folder, tokens from a file, an authority made in memory.
//!
//! It is for tests, benchmarks and local development. Where a cluster's service account is mounted it refuses to run: a
//! list of tokens is no identity there.

use super::{
    Flags,
    admin::{self, Condition, Readiness},
    tasks::Tasks,
};
use crate::{
    credential::TokensFile,
    discovery::{self, Discovery},
    index::{self, Index},
};
use anyhow::{Context, ensure};
use conduit_webhook_certs::{ServingCertificate, Settled, Stored, settle};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use time::OffsetDateTime;

/// Where Kubernetes mounts a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKENS: &str = "tokens.yaml";
const BUNDLE: &str = "ca.crt";
/// How often the certificate is looked at.
const CHECK: Duration = Duration::from_secs(3600);

/// Runs the operator from folders.
///
/// # Errors
///
/// It could not start, or a part of it ended by itself.
pub(super) async fn run(flags: &Flags, manifests: &Path, identity: &Path) -> anyhow::Result<()> {
    refuse_in_cluster(Path::new(SERVICE_ACCOUNT))?;
    let mut tasks = Tasks::new();
    let mut registry = admin::registry();

    let index = Index::new(&flags.cluster_domain);
    let (watched, folder) = (index.clone(), manifests.to_owned());
    tasks.spawn_until_closing("the manifests", async move {
        if let Err(error) = index::manifests::run(&watched, &folder).await {
            tracing::error!(%error, "manifests are not read any more");
        }
    });

    let serving = Arc::new(ServingCertificate::default());
    let mut authority = Authority { names: flags.names(), bundle: identity.join(BUNDLE), stored: None };
    authority.renew(&serving).await?;
    let renewed = Arc::clone(&serving);
    tasks.spawn_until_closing("the serving certificate", async move {
        loop {
            tokio::time::sleep(CHECK).await;
            if let Err(error) = authority.renew(&renewed).await {
                tracing::error!(%error, "the serving certificate could not be renewed; trying again");
            }
        }
    });

    let metrics = discovery::Metrics::default();
    metrics.register(&mut registry);
    let discovery = Discovery::new(
        index.clone(),
        Arc::new(TokensFile::new(identity.join(TOKENS))),
        discovery::Settings::default(),
        metrics,
        tasks.closing(),
        fastrand::f64,
    );
    super::serve_discovery(&mut tasks, flags, discovery, serving).await?;

    let readiness = Readiness::new(vec![Condition::new("the manifests are not read", move || index.synced())]);
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

/// The authority that this process made, and the file by which clients trust it.
struct Authority {
    names: BTreeSet<String>,
    bundle: PathBuf,
    stored: Option<Stored>,
}

impl Authority {
    /// Makes what is due, serves it, and writes the bundle if it changed.
    async fn renew(&mut self, serving: &ServingCertificate) -> anyhow::Result<()> {
        let Settled { stored, steps, .. } = settle(self.stored.take(), &self.names, OffsetDateTime::now_utc())?;
        if !steps.is_empty() {
            tracing::info!(?steps, file = %self.bundle.display(), "the serving certificate rotates");
            self.publish(&stored.bundle()).await?;
            if let Some(leaf) = &stored.leaf {
                serving.serve(leaf)?;
            }
        }
        self.stored = Some(stored);
        Ok(())
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
    async fn the_bundle_is_written_once_and_stays_while_nothing_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join(BUNDLE);
        let names = BTreeSet::from(["localhost".to_owned()]);
        let mut authority = Authority { names, bundle: bundle.clone(), stored: None };
        let serving = ServingCertificate::default();
        authority.renew(&serving).await.unwrap();
        let written = std::fs::read_to_string(&bundle).unwrap();
        assert!(serving.is_loaded() && written.starts_with("-----BEGIN CERTIFICATE-----"));
        authority.renew(&serving).await.unwrap();
        assert_eq!(std::fs::read_to_string(&bundle).unwrap(), written);
    }
}
