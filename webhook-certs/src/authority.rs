//! Certificate authorities: made here, read back from PEM. Must not know what is stored where or when to rotate.

use crate::{
    CertificateError, EntryError,
    leaf::{backdated, key_matches, parse},
    stored::Pair,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::fmt;
use time::{Duration, OffsetDateTime};

/// How long an authority is valid. Much longer than what it signs, so that it changes rarely; short enough that rotation
/// is something that happens and not something that is said to work.
pub const AUTHORITY_LIFETIME: Duration = Duration::days(365);

/// A certificate authority with its private key.
pub struct Authority {
    certificate: String,
    der: CertificateDer<'static>,
    key: KeyPair,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Authority {
    /// Makes a new authority (ECDSA P-256) that is valid from a little before `now`, for [`AUTHORITY_LIFETIME`].
    ///
    /// # Errors
    ///
    /// The cryptographic library has no randomness.
    pub fn issue(now: OffsetDateTime) -> Result<Self, CertificateError> {
        let failed = |source| CertificateError::Issue { what: "an authority", source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        // Two authorities stand side by side in a bundle: their names differ, so that a verifier finds the right one at
        // once (RFC 5280 section 4.1.2.4 lets names be equal, but then it has to try each).
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("conduit serving authority {}", now.unix_timestamp()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = backdated(now);
        params.not_after = now + AUTHORITY_LIFETIME;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self {
            certificate: certificate.pem(),
            der: certificate.der().clone(),
            key,
            not_before: params.not_before,
            not_after: params.not_after,
        })
    }

    /// Reads an authority back from PEM.
    pub(crate) fn read(
        Pair { names: [certificate_name, key_name], certificate, key }: Pair<'_>,
    ) -> Result<Self, EntryError> {
        let der = parse_authority(certificate_name, certificate)?;
        let key = read_key(key_name, key)?;
        let parsed = parse(certificate_name, &der)?;
        if !key_matches(&parsed, &key) {
            return Err(EntryError::new(key_name, format!("must be the private key of {certificate_name}")));
        }
        let (not_before, not_after) =
            (parsed.validity().not_before.to_datetime(), parsed.validity().not_after.to_datetime());
        Ok(Self { certificate: to_text(certificate_name, certificate)?, key, not_before, not_after, der })
    }

    /// The certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The private key, PKCS #8 in PEM.
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// From when it is valid.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub(crate) fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, rcgen::Error> {
        Issuer::from_ca_cert_der(&self.der, &self.key)
    }
}

/// Never shows the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The one certificate in the entry, which must be an authority's.
pub(crate) fn parse_authority(name: &'static str, pem: &[u8]) -> Result<CertificateDer<'static>, EntryError> {
    let der = CertificateDer::from_pem_slice(pem)
        .map_err(|error| EntryError::new(name, format!("must be a certificate in PEM: {error}")))?;
    if !parse(name, &der)?.is_ca() {
        return Err(EntryError::new(name, "must be the certificate of an authority (basic constraints, CA)"));
    }
    Ok(der)
}

pub(crate) fn read_key(name: &'static str, pem: &[u8]) -> Result<KeyPair, EntryError> {
    // The library's error may hold parts of what it read: a private key must not reach a log.
    KeyPair::from_pem(&to_text(name, pem)?).map_err(|_| EntryError::new(name, "must be a private key, PKCS #8 in PEM"))
}

pub(crate) fn to_text(name: &'static str, pem: &[u8]) -> Result<String, EntryError> {
    String::from_utf8(pem.to_vec()).map_err(|_| EntryError::new(name, "must be PEM, which is text"))
}
