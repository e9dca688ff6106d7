//! The mesh's identity as its user sees it: the Secret with its roots, and what a proxy says of its own certificate.

use crate::{case::Case, cluster::Cluster, installation::SYSTEM, metrics::Admin};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;
use serde_json::json;

/// The Secret with root and issuer.
pub const SECRET: &str = "conduit-identity";

/// What a proxy says of its certificate.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyIdentity {
    /// Its SPIFFE ID.
    pub identity: String,
    /// Its certificate, then those that lead to a root, in PEM.
    pub certificate_chain_pem: String,
}

/// Secrets of the system namespace.
pub fn secrets(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), SYSTEM)
}

/// The Secret with root and issuer.
///
/// # Errors
/// Where it is not there.
pub async fn secret(cluster: &Cluster) -> Result<Secret> {
    Ok(secrets(cluster).get(SECRET).await?)
}

/// The first certificate of an entry of a Secret.
///
/// # Errors
/// Where there is none.
pub fn certificate(secret: &Secret, entry: &str) -> Result<CertificateDer<'static>> {
    let pem = secret.data.as_ref().and_then(|data| data.get(entry)).with_context(|| format!("no entry {entry}"))?;
    CertificateDer::from_pem_slice(&pem.0).with_context(|| format!("no certificate in {entry}"))
}

/// Asks for a rotation, as a user does: of `root` or of `issuer`.
///
/// # Errors
/// What the API server says.
pub async fn rotate(cluster: &Cluster, what: &str) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {"conduit.io/rotate": what}}});
    secrets(cluster).patch(SECRET, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

impl ProxyIdentity {
    /// The certificates, the proxy's own first.
    ///
    /// # Errors
    /// Where one is none.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(self.certificate_chain_pem.as_bytes()).collect::<Result<_, _>>()?;
        ensure!(!chain.is_empty(), "it has no certificate");
        Ok(chain)
    }
}

impl Case {
    /// What the proxy of a pod says of its certificate.
    ///
    /// # Errors
    /// Where the pod has no proxy, or its proxy does not answer.
    pub async fn identity(&self, pod: &str) -> Result<ProxyIdentity> {
        let body =
            Admin::connect(self, pod).await?.get("/identity").await.with_context(|| format!("proxy of {pod}"))?;
        serde_json::from_str(&body).with_context(|| format!("proxy of {pod}: {body}"))
    }

    /// That the certificates of all pods of these apps were signed by this issuer.
    ///
    /// # Errors
    /// Which one was not.
    pub async fn signed_by(&self, apps: &[&str], issuer: &CertificateDer<'_>) -> Result<()> {
        for app in apps {
            for pod in self.pods_of(app).await? {
                let name = pod.metadata.name.context("a pod without a name")?;
                let chain = self.identity(&name).await?.chain()?;
                ensure!(chain.get(1) == Some(issuer), "the certificate of {name} is of another issuer");
            }
        }
        Ok(())
    }
}
