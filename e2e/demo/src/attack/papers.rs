//! What a peer shows of itself: nothing, a certificate that the operator gave, or one made for the occasion. Knows
//! nothing of connections.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// File of a certificate and those that lead to a root, one after the other in DER.
pub(super) const CHAIN: &str = "chain.der";
/// File of its key, PKCS #8 in DER.
pub(super) const KEY: &str = "key.der";

/// Which certificate is shown. None of these: no certificate.
#[derive(Args, Clone, Default)]
pub(super) struct Papers {
    /// Folder in which `attack certify --out` left what it was given.
    #[arg(long, value_name = "DIR", conflicts_with = "identity")]
    pub(super) certificate: Option<PathBuf>,
    /// Makes a certificate for this URI, such as `spiffe://cluster.local/ns/shop/sa/cart`.
    #[arg(long, value_name = "URI")]
    pub(super) identity: Option<String>,
    /// Signs it with issuer.crt and issuer.key of this folder; otherwise a root is made up.
    #[arg(long, value_name = "DIR", requires = "identity")]
    pub(super) issuer: Option<PathBuf>,
    /// Makes one that has expired.
    #[arg(long, requires = "identity")]
    pub(super) expired: bool,
}

/// A certificate with those that lead to a root, and its key.
pub(super) struct Credentials {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Papers {
    /// The certificate to show, if any.
    ///
    /// # Errors
    /// A file that is not there or not what it should be.
    pub(super) fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        if let Some(folder) = &self.certificate {
            return Ok(Some(given(folder)?));
        }
        let Some(identity) = &self.identity else { return Ok(None) };
        let (issuer, above) = match &self.issuer {
            Some(folder) => stolen_issuer(folder)?,
            None => made_up_root()?,
        };
        let key = KeyPair::generate()?;
        let mut wanted = CertificateParams::default();
        wanted.distinguished_name = DistinguishedName::new();
        wanted.subject_alt_names = vec![SanType::URI(Ia5String::try_from(identity.as_str())?)];
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        wanted.use_authority_key_identifier_extension = true;
        if self.expired {
            wanted.not_after = date_time_ymd(2020, 1, 1);
        }
        let leaf = wanted.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        Ok(Some(Credentials { chain: [vec![leaf.der().clone()], above].concat(), key }))
    }
}

fn given(folder: &Path) -> anyhow::Result<Credentials> {
    let read = |name: &str| std::fs::read(folder.join(name)).with_context(|| name.to_owned());
    let (all, mut chain) = (read(CHAIN)?, Vec::new());
    let mut rest = all.as_slice();
    while !rest.is_empty() {
        let (after, _) = X509Certificate::from_der(rest).context(CHAIN)?;
        chain.push(CertificateDer::from(rest[..rest.len() - after.len()].to_vec()));
        rest = after;
    }
    Ok(Credentials { chain, key: PrivateKeyDer::try_from(read(KEY)?).map_err(anyhow::Error::msg)? })
}

/// The certificates of a PEM file.
pub(super) fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(file).with_context(|| file.display().to_string())?;
    all.collect::<Result<_, _>>().with_context(|| file.display().to_string())
}

type Signer = (Issuer<'static, KeyPair>, Vec<CertificateDer<'static>>);

/// The mesh's own issuer, as somebody has it who could read its Secret.
fn stolen_issuer(folder: &Path) -> anyhow::Result<Signer> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
    let key = KeyPair::from_pem(&read("issuer.key")?).context("issuer.key")?;
    let chain = certificates(&folder.join("issuer.crt"))?;
    Ok((Issuer::from_ca_cert_der(chain.first().context("issuer.crt is empty")?, key)?, chain))
}

fn made_up_root() -> anyhow::Result<Signer> {
    let mut root = CertificateParams::default();
    root.distinguished_name.push(DnType::CommonName, "nobody's root");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let certificate = root.self_signed(&key)?;
    Ok((Issuer::new(root, key), vec![certificate.der().clone()]))
}

/// What a certificate says: its URIs and when it ends, in seconds since 1970.
///
/// # Errors
/// It cannot be read.
pub(super) fn described(certificate: &CertificateDer<'_>) -> anyhow::Result<Value> {
    let (_, read) = X509Certificate::from_der(certificate)?;
    let names = read.subject_alternative_name()?.map(|extension| extension.value.general_names.clone());
    let uris = names.iter().flatten().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let key = read.public_key().algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    Ok(json!({
        "uris": uris.collect::<Vec<_>>(),
        "names": names.iter().flatten().count(),
        "issuer": read.issuer().to_string(),
        "not_after": read.validity().not_after.timestamp(),
        "curve": key.map(|curve| curve.to_id_string()),
    }))
}
