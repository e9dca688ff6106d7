//! A request for a certificate, with whatever token and whatever it names. What is given can be kept for later attempts.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use conduit_model::wire::identity::CertifyRequest;
use conduit_model::wire::identity::identity_client::IdentityClient;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SanType,
};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use super::operator::{Trust, connect};
use super::papers::{CHAIN, KEY, Papers, described};
use super::report;

#[derive(Args)]
pub(super) struct Settings {
    /// The operator's identity service.
    #[arg(long, default_value = "conduit-operator.conduit.svc:8080", value_name = "ADDRESS")]
    to: String,
    #[command(flatten)]
    trust: Trust,
    /// The token to show; nothing: none.
    #[arg(long)]
    token: Option<String>,
    #[command(flatten)]
    request: Wishes,
    /// Folder for what is given, for later attempts.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What the request names. Nothing of it: nothing.
#[derive(Args, Clone)]
pub(super) struct Wishes {
    /// A URI, such as `spiffe://cluster.local/ns/shop/sa/cart`; may be repeated.
    #[arg(long)]
    uri: Vec<String>,
    /// A DNS name; may be repeated.
    #[arg(long)]
    dns: Vec<String>,
    /// A common name.
    #[arg(long)]
    common_name: Option<String>,
    /// To sign certificates with the one that is asked for.
    #[arg(long)]
    authority: bool,
    /// The kind of key.
    #[arg(long, value_enum, default_value_t = Key::P256)]
    key: Key,
    /// One byte of the request's signature is another.
    #[arg(long)]
    forged: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Key {
    P256,
    P384,
    Ed25519,
    Rsa2048,
}

pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    let key = settings.request.key.generate()?;
    let request = settings.request.write(&key)?;
    report(attempt(&settings, request, &key).await);
    Ok(())
}

async fn attempt(settings: &Settings, request: Vec<u8>, key: &KeyPair) -> anyhow::Result<Value> {
    let (connection, origin) = connect(&settings.to, &settings.trust, &Papers::default()).await?;
    let mut call = tonic::Request::new(CertifyRequest { signing_request: request });
    if let Some(token) = &settings.token {
        call.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    let given = IdentityClient::with_origin(connection, origin).certify(call).await?.into_inner();
    let chain: Vec<_> = given.certificate_chain.iter().map(|der| CertificateDer::from_slice(der)).collect();
    if let Some(folder) = &settings.out {
        std::fs::write(folder.join(CHAIN), given.certificate_chain.concat()).context(CHAIN)?;
        std::fs::write(folder.join(KEY), key.serialized_der()).context(KEY)?;
    }
    Ok(json!({
        "chain": chain.iter().map(described).collect::<anyhow::Result<Vec<_>>>()?,
        "roots": given.trust_bundle.len(),
    }))
}

impl Key {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        KeyPair::generate_for(match self {
            Self::P256 => &PKCS_ECDSA_P256_SHA256,
            Self::P384 => &PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &PKCS_ED25519,
            Self::Rsa2048 => &PKCS_RSA_SHA256,
        })
    }
}

impl Wishes {
    /// The request in DER.
    ///
    /// # Errors
    /// A name that no certificate can bear.
    pub(super) fn write(&self, key: &KeyPair) -> anyhow::Result<Vec<u8>> {
        let mut wanted = CertificateParams::default();
        wanted.distinguished_name = DistinguishedName::new();
        if let Some(name) = &self.common_name {
            wanted.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        let uris = self.uri.iter().map(|uri| Ia5String::try_from(uri.as_str()).map(SanType::URI));
        let names = self.dns.iter().map(|name| Ia5String::try_from(name.as_str()).map(SanType::DnsName));
        wanted.subject_alt_names = uris.chain(names).collect::<Result<_, _>>()?;
        if self.authority {
            wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let mut der = wanted.serialize_request(key)?.der().to_vec();
        // A request ends with its signature.
        if let (true, Some(last)) = (self.forged, der.last_mut()) {
            *last ^= 1;
        }
        Ok(der)
    }
}
