//! Meshes for tests: a root and an issuer in memory, and whatever certificate a test wants to come with.

use super::{Authenticated, CheckToken, CredentialError, MeshClients, ProvenWorkload};
use crate::issuer::{Issuer, Lifetimes, PodBinding, SigningRequest, Stored, settle};
use conduit_model::TrustDomain;
use conduit_webhook_certs::ServingCertificate;
use futures::{FutureExt, future::BoxFuture};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, kx_group},
    },
    pki_types::{CertificateDer, PrivateKeyDer},
};
use std::{collections::BTreeSet, sync::Arc};
use time::{Duration, OffsetDateTime};

/// A mesh whose operator is `localhost`.
pub(crate) struct FakeMesh {
    stored: Stored,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) domain: TrustDomain,
}

/// What a client comes with.
pub(crate) struct FakeCredential {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl FakeMesh {
    pub(crate) fn new() -> Self {
        let settled = settle(None, None, &Lifetimes::default(), OffsetDateTime::now_utc()).unwrap();
        let issuer = Arc::new(Issuer::from_stored(&settled.stored).unwrap());
        Self { stored: settled.stored, issuer, domain: "cluster.local".parse().unwrap() }
    }

    /// What the operator serves with.
    pub(crate) fn serving(&self) -> Arc<ServingCertificate> {
        let names = BTreeSet::from(["localhost".to_owned()]);
        let leaf = self.issuer.serving(&names, Duration::HOUR, OffsetDateTime::now_utc()).unwrap();
        let serving = ServingCertificate::default();
        serving.serve(&leaf).unwrap();
        Arc::new(serving)
    }

    /// Takes the workloads of this mesh.
    pub(crate) fn clients(&self) -> Arc<MeshClients> {
        let clients = MeshClients::new(self.domain.clone(), self.serving(), b"h2");
        clients.trust(self.issuer.trust_bundle().roots()).unwrap();
        Arc::new(clients)
    }

    /// The certificate of a pod of the service account `shop/web`.
    pub(crate) fn web(&self, pod: &str, uid: Option<&str>) -> FakeCredential {
        let id = self.domain.identity("shop", "web");
        let key = KeyPair::generate().unwrap();
        let pod = PodBinding { pod: pod.to_owned(), uid: uid.map(ToOwned::to_owned) };
        let request = SigningRequest::parse(&signing_request(&key)).unwrap();
        let certified = self.issuer.certify(&request, &id, &pod, Duration::HOUR, OffsetDateTime::now_utc()).unwrap();
        let chain = certified.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        FakeCredential { chain, key }
    }

    /// A certificate that the issuer would never make.
    pub(crate) fn signed(&self, params: &CertificateParams) -> FakeCredential {
        let key = KeyPair::generate().unwrap();
        let authority = self.stored.issuer.as_ref().unwrap();
        let certificate = params.signed_by(&key, &authority.issuer().unwrap()).unwrap();
        FakeCredential { chain: vec![certificate.der().clone(), authority.der().clone()], key }
    }

    /// A client that trusts this mesh, and comes with a certificate or with none.
    pub(crate) fn client(&self, credential: Option<&FakeCredential>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for root in self.issuer.trust_bundle().roots() {
            roots.add(CertificateDer::from(root.as_ref())).unwrap();
        }
        // As proxies offer them.
        let kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
        let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match credential {
            Some(FakeCredential { chain, key }) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(chain.clone(), key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// A signing request that names nobody.
pub(crate) fn signing_request(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(key).unwrap().der().to_vec()
}

/// A pod of the service account `shop/web`, proven until `not_after`.
pub(crate) fn authenticated(pod: &str, uid: Option<&str>, not_after: OffsetDateTime) -> Authenticated {
    Authenticated::assumed(proven(pod, uid), not_after)
}

fn proven(pod: &str, uid: Option<&str>) -> ProvenWorkload {
    ProvenWorkload {
        namespace: "shop".to_owned(),
        service_account: "web".to_owned(),
        pod: pod.to_owned(),
        pod_uid: uid.map(ToOwned::to_owned),
    }
}

/// An API server that knows the tokens of pods of the service account `shop/web` by the pods' names, does not answer where
/// the token is `unchecked`, and takes for ever over one that is `slow`.
pub(crate) struct FakeTokens;

impl CheckToken for FakeTokens {
    fn check<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ProvenWorkload, CredentialError>> {
        async move {
            match token {
                "slow" => futures::future::pending().await,
                "unchecked" => Err(CredentialError::Unavailable("the API server does not answer".to_owned())),
                pod if pod.starts_with("web-") => Ok(proven(pod, Some("uid"))),
                _ => Err(CredentialError::Refused("the API server does not know it".to_owned())),
            }
        }
        .boxed()
    }
}
