//! What the certificate of a workload says of its holder, and from when to when. Whether it may say so is not known here.

use conduit_model::{IdentityError, SpiffeId};
use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use webpki::EndEntityCert;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// A workload's certificate, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Who holds it.
    pub(super) id: SpiffeId,
    /// When it is valid.
    pub(super) validity: Validity,
}

/// The time in which a certificate is valid, both ends included (RFC 5280 section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub not_before: SystemTime,
    /// Its last second.
    pub not_after: SystemTime,
}

/// Why a certificate does not prove what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// None was presented.
    #[error("expected a certificate of the mesh, got none")]
    Missing,
    /// It is no certificate.
    #[error("expected an X.509 certificate: {0}")]
    Unreadable(String),
    /// It does not lead to a root of the mesh, is not valid now, or not for this use.
    #[error("expected a certificate that leads to a root of the mesh and is valid now: {0}")]
    Chain(String),
    /// It bears no URI, or several.
    #[error("expected exactly one URI, its identity (SPIFFE X509-SVID section 2), found {0}")]
    Identities(usize),
    /// Its one URI is no identity of a workload.
    #[error("its URI {0}")]
    Identity(#[from] IdentityError),
    /// Its time has not come, or is over.
    #[error("expected a certificate that is valid now; it {0}")]
    Validity(&'static str),
}

impl Leaf {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is no certificate, or its one URI is no identity.
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Result<Self, CertificateFault> {
        let parsed = EndEntityCert::try_from(certificate).map_err(|e| CertificateFault::Unreadable(e.to_string()))?;
        let uris: Vec<_> = parsed.valid_uri_names().collect();
        let [uri] = uris[..] else { return Err(CertificateFault::Identities(uris.len())) };
        Ok(Self { id: uri.parse()?, validity: Validity::read(certificate)? })
    }
}

impl Validity {
    /// Reads the validity of any certificate.
    ///
    /// # Errors
    /// It is no certificate.
    pub fn read(certificate: &[u8]) -> Result<Self, CertificateFault> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|e| CertificateFault::Unreadable(e.to_string()))?;
        let time = |time: x509_parser::time::ASN1Time| {
            let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
            UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let validity = parsed.validity();
        Ok(Self { not_before: time(validity.not_before), not_after: time(validity.not_after) })
    }

    /// Whether it holds at `now`.
    ///
    /// # Errors
    /// It does not yet, or not any more.
    pub fn check(&self, now: SystemTime) -> Result<(), CertificateFault> {
        match now {
            now if now < self.not_before => Err(CertificateFault::Validity("is not valid yet")),
            now if self.is_over(now) => Err(CertificateFault::Validity("has expired")),
            _ => Ok(()),
        }
    }

    /// Whether its end has passed at `now`. Counted in whole seconds, as certificates count.
    pub fn is_over(&self, now: SystemTime) -> bool {
        now.duration_since(self.not_after).is_ok_and(|since| since >= Duration::from_secs(1))
    }
}

/// The moment in UTC, to the second (RFC 3339).
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let moment = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    moment.format(&Rfc3339).expect("a year has four digits")
}
