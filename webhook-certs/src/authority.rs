//! Certificate authorities: made here, read back from PEM. Must not know what is stored where or when to rotate.

use crate::{
    CertificateError, EntryError, Pair,
    entries::{key_matches, one_certificate, parse, read_key, to_text},
};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use std::{fmt, sync::Arc};
use time::{Duration, OffsetDateTime};

/// Validity begins this long before an authority or a serving certificate is issued, for peers whose clock is behind.
pub const BACKDATING: Duration = Duration::hours(1);

/// What an authority is for.
#[derive(Clone, Copy, Debug)]
pub struct AuthorityProfile {
    /// What it is called; the time of its issue is added.
    pub name: &'static str,
    /// How long it is valid.
    pub lifetime: Duration,
    /// How many authorities may stand between it and a certificate (RFC 5280 section 4.2.1.9).
    pub path_length: u8,
}

/// A certificate authority with its private key. Clones share the key.
#[derive(Clone)]
pub struct Authority {
    certificate: String,
    der: CertificateDer<'static>,
    key: Arc<KeyPair>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Authority {
    /// Makes a new authority (ECDSA P-256) that signs itself, valid from a little before `now`.
    ///
    /// # Errors
    ///
    /// The cryptographic library has no randomness.
    pub fn issue(profile: AuthorityProfile, now: OffsetDateTime) -> Result<Self, CertificateError> {
        let key = KeyPair::generate().map_err(failed)?;
        let params = params(profile, now);
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self::new(&certificate, key, &params))
    }

    /// Makes a new authority (ECDSA P-256) that this one signs and that never outlives it.
    ///
    /// # Errors
    ///
    /// The cryptographic library has no randomness.
    pub fn issue_below(&self, profile: AuthorityProfile, now: OffsetDateTime) -> Result<Self, CertificateError> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(profile, now);
        params.not_before = params.not_before.max(self.not_before);
        params.not_after = params.not_after.min(self.not_after);
        params.use_authority_key_identifier_extension = true;
        let issuer = self.issuer().map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Self::new(&certificate, key, &params))
    }

    fn new(certificate: &rcgen::Certificate, key: KeyPair, params: &CertificateParams) -> Self {
        Self {
            certificate: certificate.pem(),
            der: certificate.der().clone(),
            key: Arc::new(key),
            // Certificates hold whole seconds, and what is read back has to equal what was issued.
            not_before: whole_second(params.not_before),
            not_after: whole_second(params.not_after),
        }
    }

    /// Reads an authority back from PEM.
    ///
    /// # Errors
    ///
    /// Names the entry that is not what it should be.
    pub fn read(Pair { names: [certificate_name, key_name], certificate, key }: Pair<'_>) -> Result<Self, EntryError> {
        let der = authority_certificate(certificate_name, certificate)?;
        let key = read_key(key_name, key)?;
        let parsed = parse(certificate_name, &der)?;
        if !key_matches(&parsed, &key) {
            return Err(EntryError::new(key_name, format!("must be the private key of {certificate_name}")));
        }
        let (not_before, not_after) =
            (parsed.validity().not_before.to_datetime(), parsed.validity().not_after.to_datetime());
        let certificate = to_text(certificate_name, certificate)?;
        Ok(Self { certificate, key: Arc::new(key), not_before, not_after, der })
    }

    /// Reads an authority that `signer` has signed.
    ///
    /// # Errors
    ///
    /// As [`Authority::read`], and another one has signed it.
    pub fn read_below(pair: Pair<'_>, signer: &Authority) -> Result<Self, EntryError> {
        let [name, _] = pair.names;
        let read = Self::read(pair)?;
        read.check_signature(name, signer)?;
        Ok(read)
    }

    fn check_signature(&self, name: &'static str, signer: &Authority) -> Result<(), EntryError> {
        let signer = parse(name, &signer.der)?;
        parse(name, &self.der)?
            .verify_signature(Some(signer.public_key()))
            .map_err(|_| EntryError::new(name, "must be signed by the stored authority above it"))
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

    /// The certificate, in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// What signs certificates in its name.
    ///
    /// # Errors
    ///
    /// The library cannot read the authority's own certificate.
    pub fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, rcgen::Error> {
        Issuer::from_ca_cert_der(&self.der, self.key.as_ref())
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

/// The first certificate in the entry, which must be an authority's.
pub(crate) fn authority_certificate(name: &'static str, pem: &[u8]) -> Result<CertificateDer<'static>, EntryError> {
    let der = one_certificate(name, pem)?;
    check_authority(name, &der)?;
    Ok(der)
}

pub(crate) fn check_authority(name: &'static str, der: &CertificateDer<'_>) -> Result<(), EntryError> {
    match parse(name, der)?.is_ca() {
        true => Ok(()),
        false => Err(EntryError::new(name, "must be the certificate of an authority (basic constraints, CA)")),
    }
}

fn params(
    AuthorityProfile { name, lifetime, path_length }: AuthorityProfile,
    now: OffsetDateTime,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Two authorities stand side by side in a bundle: their names differ, so that a verifier finds the right one at
    // once (RFC 5280 section 4.1.2.4 lets names be equal, but then it has to try each).
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{name} {}", now.unix_timestamp()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - BACKDATING;
    params.not_after = now + lifetime;
    params
}

fn whole_second(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_nanosecond(0).expect("0 is a nanosecond of every second")
}

fn failed(source: rcgen::Error) -> CertificateError {
    CertificateError::Issue { what: "an authority", source }
}
