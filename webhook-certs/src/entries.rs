//! The form in which certificates and keys are kept: a map of PEM entries, as a Secret's `data` is one.
//!
//! Reading is per part. A part that cannot be read is an [`EntryError`] that names the entry, and counts as absent.
//! Must not know what the parts are for, nor put a key into an error.

use crate::authority::check_authority;
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// The entries of a Secret's `data`.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// An entry that cannot be used, and what it should have been. Never holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry}: {expected}")]
pub struct EntryError {
    /// Name of the entry.
    pub entry: &'static str,
    /// What was expected of it.
    pub expected: String,
}

impl EntryError {
    /// An entry, and what was expected of it.
    pub fn new(entry: &'static str, expected: impl Into<String>) -> Self {
        Self { entry, expected: expected.into() }
    }
}

/// Reads entries part by part, and remembers what could not be read.
#[derive(Debug)]
pub struct Parts<'a> {
    entries: &'a Entries,
    faults: Vec<EntryError>,
}

/// What reading entries gave.
#[derive(Debug)]
pub struct Read<S> {
    /// What is usable; none where the part is not on which the others hang.
    pub stored: Option<S>,
    /// What is not, for the log. Empty for entries that nobody has filled yet.
    pub faults: Vec<EntryError>,
}

/// A certificate's entry and its key's.
pub struct Pair<'a> {
    /// Names of the entries, the certificate's first.
    pub names: [&'static str; 2],
    /// The certificate's, as it stands there.
    pub certificate: &'a [u8],
    /// The key's, as it stands there.
    pub key: &'a [u8],
}

impl<'a> Parts<'a> {
    /// The parts of `entries`.
    pub fn new(entries: &'a Entries) -> Self {
        Self { entries, faults: Vec::new() }
    }

    /// What `read` makes of two entries that belong together; none where neither is there, or where they cannot be read.
    pub fn pair<T>(
        &mut self,
        names: [&'static str; 2],
        read: impl FnOnce(Pair<'a>) -> Result<T, EntryError>,
    ) -> Option<T> {
        let [certificate_name, key_name] = names;
        let missing = |name, other| Err(EntryError::new(name, format!("must be there, as {other} is")));
        let read = match (self.entries.get(certificate_name), self.entries.get(key_name)) {
            (Some(certificate), Some(key)) => read(Pair { names, certificate, key }).map(Some),
            (None, None) => Ok(None),
            (Some(_), None) => missing(key_name, certificate_name),
            (None, Some(_)) => missing(certificate_name, key_name),
        };
        self.usable(read)
    }

    /// What `read` makes of an entry; none where it is not there or cannot be read.
    pub fn single<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'static str, &'a [u8]) -> Result<T, EntryError>,
    ) -> Option<T> {
        let read = self.entries.get(name).map(|pem| read(name, pem)).transpose();
        self.usable(read)
    }

    /// Says of each of these entries that is not there what it should hold.
    pub fn require(&mut self, needed: &[(&'static str, &str)]) {
        let missing = needed.iter().filter(|(name, _)| !self.entries.contains_key(*name));
        self.faults.extend(missing.map(|(name, what)| EntryError::new(name, format!("must be there: {what}"))));
    }

    /// Whether everything could be read so far.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    /// What was made of the entries, and what could not be read.
    pub fn into_read<S>(self, stored: Option<S>) -> Read<S> {
        Read { stored, faults: self.faults }
    }

    /// What could not be read.
    pub fn into_faults(self) -> Vec<EntryError> {
        self.faults
    }

    fn usable<T>(&mut self, read: Result<Option<T>, EntryError>) -> Option<T> {
        read.unwrap_or_else(|fault| {
            self.faults.push(fault);
            None
        })
    }
}

/// The certificate of an authority that is trusted and signs nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedAuthority {
    der: CertificateDer<'static>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl TrustedAuthority {
    /// What is kept of an authority that stops signing.
    pub fn from_authority(authority: &crate::Authority) -> Self {
        Self { der: authority.der().clone(), not_before: authority.not_before(), not_after: authority.not_after() }
    }

    /// Reads every certificate of an entry, at least one.
    ///
    /// # Errors
    ///
    /// One of them is no authority's.
    pub fn read_all(name: &'static str, pem: &[u8]) -> Result<Vec<Self>, EntryError> {
        certificates(name, pem)?.into_iter().map(|der| Self::read(name, der)).collect()
    }

    fn read(name: &'static str, der: CertificateDer<'static>) -> Result<Self, EntryError> {
        check_authority(name, &der)?;
        let validity = parse(name, &der)?.validity().clone();
        Ok(Self { not_before: validity.not_before.to_datetime(), not_after: validity.not_after.to_datetime(), der })
    }

    /// The certificate, in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate, in PEM.
    pub fn to_pem(&self) -> String {
        to_pem(&self.der)
    }

    /// From when it is valid.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }
}

/// A certificate as PEM (RFC 7468).
pub fn to_pem(der: &CertificateDer<'_>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der.as_ref()), config)
}

/// Every certificate of an entry, at least one, in their order.
///
/// # Errors
///
/// There is none, or what is there is no PEM.
pub fn certificates(name: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, EntryError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(EntryError::new(name, "must be a certificate in PEM: there is none")),
        Err(error) => Err(EntryError::new(name, format!("must be a certificate in PEM: {error}"))),
    }
}

/// The first certificate of an entry.
pub(crate) fn one_certificate(name: &'static str, pem: &[u8]) -> Result<CertificateDer<'static>, EntryError> {
    Ok(certificates(name, pem)?.swap_remove(0))
}

pub(crate) fn read_key(name: &'static str, pem: &[u8]) -> Result<KeyPair, EntryError> {
    // The library's error may hold parts of what it read: a private key must not reach a log.
    let key = PrivateKeyDer::from_pem_slice(pem).ok().and_then(|der| KeyPair::try_from(&der).ok());
    key.ok_or_else(|| EntryError::new(name, "must be a private key in PEM (PKCS #8, PKCS #1 or SEC 1), not encrypted"))
}

pub(crate) fn to_text(name: &'static str, pem: &[u8]) -> Result<String, EntryError> {
    String::from_utf8(pem.to_vec()).map_err(|_| EntryError::new(name, "must be PEM, which is text"))
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
