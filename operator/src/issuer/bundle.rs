//! The roots of the mesh, as proxies are told of them. Must not know where they come from.

use bytes::Bytes;
use conduit_webhook_certs::to_pem;
use rustls_pki_types::CertificateDer;
use std::fmt;

/// The certificates that every chain of the mesh ends at. The one that signs now is the first.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustBundle {
    roots: Vec<Bytes>,
}

impl TrustBundle {
    /// These roots, less those that stand there twice.
    pub(super) fn new<'a>(roots: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> Self {
        let mut unique: Vec<Bytes> = Vec::new();
        for root in roots {
            if !unique.iter().any(|known| **known == **root) {
                unique.push(Bytes::copy_from_slice(root));
            }
        }
        Self { roots: unique }
    }

    /// X.509 in DER. Never empty.
    pub fn roots(&self) -> &[Bytes] {
        &self.roots
    }

    /// The roots in PEM, one after the other.
    pub fn to_pem(&self) -> String {
        self.roots.iter().map(|root| to_pem(&CertificateDer::from(root.as_ref()))).collect()
    }
}

/// How many, not a page of numbers.
impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustBundle({} roots)", self.roots.len())
    }
}
