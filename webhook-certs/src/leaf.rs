//! Serving certificates: signed by an authority, read back from PEM. Must not know when they are renewed.

use crate::{
    Authority, BACKDATING, CertificateError, EntryError, Pair,
    entries::{certificates, key_matches, parse, read_key, to_text},
};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::{collections::BTreeSet, fmt, sync::Arc};
use time::{Duration, OffsetDateTime};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

/// A serving certificate with its private key. Clones share the key.
#[derive(Clone)]
pub struct Leaf {
    certificate: String,
    /// Its own, then those that lead to an authority that is trusted, without that one.
    chain: Vec<CertificateDer<'static>>,
    key: Arc<KeyPair>,
    names: BTreeSet<String>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Leaf {
    /// Makes a new key (ECDSA P-256) and a certificate for it, valid for `names` from a little before `now`, for `lifetime`
    /// at most: it never outlives its authority.
    ///
    /// # Errors
    ///
    /// A name is no DNS name, or the cryptographic library has no randomness.
    pub fn issue(
        authority: &Authority,
        names: &BTreeSet<String>,
        lifetime: Duration,
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
        params.not_before = (now - BACKDATING).max(authority.not_before());
        params.not_after = (now + lifetime).min(authority.not_after());
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = authority.issuer().map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Self {
            certificate: certificate.pem(),
            chain: vec![certificate.der().clone()],
            key: Arc::new(key),
            names: names.clone(),
            not_before: params.not_before,
            not_after: params.not_after,
        })
    }

    /// The same certificate, served together with the authorities between it and one that is trusted.
    #[must_use]
    pub fn with_intermediates(mut self, intermediates: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        self.chain.extend(intermediates);
        self
    }

    /// Reads a certificate back from PEM, and those that follow it in its entry.
    ///
    /// # Errors
    ///
    /// Names the entry that is not what it should be.
    pub fn read(Pair { names: [certificate_name, key_name], certificate, key }: Pair<'_>) -> Result<Self, EntryError> {
        let chain = certificates(certificate_name, certificate)?;
        let key = read_key(key_name, key)?;
        let parsed = parse(certificate_name, &chain[0])?;
        if !key_matches(&parsed, &key) {
            return Err(EntryError::new(key_name, format!("must be the private key of {certificate_name}")));
        }
        let (not_before, not_after) =
            (parsed.validity().not_before.to_datetime(), parsed.validity().not_after.to_datetime());
        let names = dns_names(&parsed);
        let certificate = to_text(certificate_name, certificate)?;
        Ok(Self { certificate, key: Arc::new(key), names, not_before, not_after, chain })
    }

    /// Reads a certificate that `authority` has signed.
    ///
    /// # Errors
    ///
    /// As [`Leaf::read`], and another one has signed it.
    pub(crate) fn read_below(pair: Pair<'_>, authority: &Authority) -> Result<Self, EntryError> {
        let [name, _] = pair.names;
        let read = Self::read(pair)?;
        let signer = parse(name, authority.der())?;
        parse(name, &read.chain[0])?
            .verify_signature(Some(signer.public_key()))
            .map_err(|_| EntryError::new(name, "must be signed by the stored authority"))?;
        Ok(read)
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

    /// The certificate, and those that lead to an authority that is trusted, in DER. Never empty.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key_der(&self) -> Result<PrivateKeyDer<'static>, rustls::Error> {
        // What others made need not be PKCS #8: the form is recognised from the bytes.
        PrivateKeyDer::try_from(self.key.serialize_der())
            .map_err(|_| rustls::Error::General("the private key has no form that TLS knows".into()))
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
