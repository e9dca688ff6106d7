//! The trust bundle: the roots that certificates of the mesh are verified with. Immutable; whoever has a newer one holds
//! another value.

use super::{
    certificate::{CertificateFault, Validity},
    tls,
};
use conduit_model::mtls::MAX_ROOTS;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};
use std::time::SystemTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// The roots of the mesh; never empty. The one that signs now is the first.
#[derive(Debug)]
pub struct TrustBundle {
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

/// A root as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its subject, as RFC 4514 writes names.
    pub subject: String,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// Its last second.
    pub not_after: SystemTime,
}

/// What cannot be a trust bundle: which item, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It has too many roots, or none.
    #[error(": must hold 1 to {MAX_ROOTS} certificates, holds {0}")]
    Count(usize),
    /// One bad certificate refuses the bundle whole: what would be left out could be the one in use.
    #[error("[{index}]: must be an X.509 certificate: {reason}")]
    Root {
        /// The place in the bundle, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl TrustBundle {
    /// A bundle of certificates in DER.
    ///
    /// # Errors
    /// There are none or too many, or one of them cannot be read.
    pub fn from_der<D: AsRef<[u8]>>(roots: impl IntoIterator<Item = D>) -> Result<Self, BundleError> {
        let owned = |der: D| CertificateDer::from(der.as_ref().to_vec());
        Self::new(roots.into_iter().map(owned).collect())
    }

    /// The certificates of a file in PEM; what else the file holds does not count.
    ///
    /// # Errors
    /// As [`TrustBundle::from_der`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, BundleError> {
        let read = |(index, root): (usize, Result<_, rustls_pki_types::pem::Error>)| {
            root.map_err(|e| BundleError::Root { index, reason: e.to_string() })
        };
        Self::new(CertificateDer::pem_slice_iter(pem).enumerate().map(read).collect::<Result<_, _>>()?)
    }

    fn new(roots: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        if !(1..=MAX_ROOTS).contains(&roots.len()) {
            return Err(BundleError::Count(roots.len()));
        }
        let anchor = |(index, root)| match anchor_from_trusted_cert(root) {
            Ok(anchor) => Ok(anchor.to_owned()),
            Err(e) => Err(BundleError::Root { index, reason: e.to_string() }),
        };
        let anchors = roots.iter().enumerate().map(anchor).collect::<Result<_, _>>()?;
        Ok(Self { roots, anchors })
    }

    /// The certificates, the one that signs now first.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The roots for people; one that only rustls can read is left out.
    pub fn describe(&self) -> Vec<Root> {
        self.roots.iter().filter_map(|root| describe(root)).collect()
    }

    /// What a path ends at.
    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// Builds a path from `leaf` to a root (RFC 5280 section 6); the root's place.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<usize, CertificateFault> {
        let leaf = EndEntityCert::try_from(leaf).map_err(|e| CertificateFault::Unreadable(e.to_string()))?;
        let algorithms = tls::provider().signature_verification_algorithms.all;
        let path = leaf.verify_for_usage(algorithms, &self.anchors, intermediates, now, usage, None, None);
        let path = path.map_err(|e| CertificateFault::Chain(e.to_string()))?;
        let place = self.anchors.iter().position(|anchor| anchor == path.anchor());
        Ok(place.expect("a path ends at one of the anchors that it was built with"))
    }
}

fn describe(root: &[u8]) -> Option<Root> {
    let (_, parsed) = X509Certificate::from_der(root).ok()?;
    let hash = TLS13_AES_128_GCM_SHA256.tls13()?.common.hash_provider.hash(root);
    let fingerprint = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let not_after = Validity::read(root).ok()?.not_after;
    Some(Root { subject: parsed.subject().to_string(), fingerprint, not_after })
}

/// Equal where the same roots stand in the same order.
impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.roots == other.roots
    }
}

impl Eq for TrustBundle {}
