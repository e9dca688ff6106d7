//! Serving certificates: signed by an authority, read back from PEM. Must not know when they are renewed.

use crate::{
    Authority, CertificateError, EntryError,
    authority::{read_key, to_text},
    stored::Pair,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::{collections::BTreeSet, fmt};
use time::{Duration, OffsetDateTime};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// How long a serving certificate is valid, at most: it never outlives its authority.
pub const LEAF_LIFETIME: Duration = Duration::days(30);

/// Validity begins this long before it is issued, for peers whose clock is behind.
const BACKDATING: Duration = Duration::hours(1);

/// A serving certificate with its private key.
pub struct Leaf {
    certificate: String,
    der: CertificateDer<'static>,
    key: KeyPair,
    names: BTreeSet<String>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Leaf {
    /// Makes a new key (ECDSA P-256) and a certificate for it, valid for `names` from a little before `now`.
    ///
    /// # Errors
    ///
    /// A name is no DNS name, or the cryptographic library has no randomness.
    pub fn issue(
        authority: &Authority,
        names: &BTreeSet<String>,
        now: OffsetDateTime,
    ) -> Result<Self, CertificateError> {
        let failed = |source| CertificateError::Issue { what: "a serving certificate", source };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "conduit-operator");
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.as_str().try_into() {
                Ok(ascii) => Ok(rcgen::SanType::DnsName(ascii)),
                Err(_) => Err(CertificateError::Name { name: name.clone() }),
            })
            .collect::<Result<_, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = backdated(now).max(authority.not_before());
        params.not_after = (now + LEAF_LIFETIME).min(authority.not_after());
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = authority.issuer().map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Self {
            certificate: certificate.pem(),
            der: certificate.der().clone(),
            key,
            names: names.clone(),
            not_before: params.not_before,
            not_after: params.not_after,
        })
    }

    /// Reads a certificate back from PEM; it must be signed by `authority`.
    pub(crate) fn read(
        Pair { names: [certificate_name, key_name], certificate, key }: Pair<'_>,
        authority: &Authority,
    ) -> Result<Self, EntryError> {
        let der = CertificateDer::from_pem_slice(certificate)
            .map_err(|error| EntryError::new(certificate_name, format!("must be a certificate in PEM: {error}")))?;
        let key = read_key(key_name, key)?;
        let parsed = parse(certificate_name, &der)?;
        if !key_matches(&parsed, &key) {
            return Err(EntryError::new(key_name, format!("must be the private key of {certificate_name}")));
        }
        let signer = parse(certificate_name, authority.der())?;
        parsed
            .verify_signature(Some(signer.public_key()))
            .map_err(|_| EntryError::new(certificate_name, "must be signed by the stored authority"))?;
        let (not_before, not_after) =
            (parsed.validity().not_before.to_datetime(), parsed.validity().not_after.to_datetime());
        let names = dns_names(&parsed);
        Ok(Self { certificate: to_text(certificate_name, certificate)?, key, names, not_before, not_after, der })
    }

    /// The certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The private key, PKCS #8 in PEM.
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// The DNS names that it is valid for.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// From when it is valid.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// Never shows the key.
impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("names", &self.names)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// When validity begins for what is issued now. Whole seconds: certificates cannot hold less, and what is read back has
/// to equal what was issued.
pub(crate) fn backdated(now: OffsetDateTime) -> OffsetDateTime {
    now - BACKDATING
}

pub(crate) fn parse<'a>(name: &'static str, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, EntryError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(EntryError::new(name, "must hold a certificate and nothing after it")),
        Err(error) => Err(EntryError::new(name, format!("must be an X.509 certificate: {error}"))),
    }
}

pub(crate) fn key_matches(certificate: &X509Certificate<'_>, key: &KeyPair) -> bool {
    *certificate.public_key().subject_public_key.data == *key.public_key_raw()
}

fn dns_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        // A certificate without names covers none of those that are asked for, and is renewed.
        return BTreeSet::new();
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect()
}
