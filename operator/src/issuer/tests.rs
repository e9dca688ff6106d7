//! What the authority signs, and what it refuses.

use super::*;
use conduit_model::{SpiffeId, TrustDomain};
use conduit_webhook_certs::{Authority, AuthorityProfile, BACKDATING, Entries};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    PKCS_RSA_SHA256, SanType,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::{Duration, OffsetDateTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

mod certify;
mod own;
mod requests;
mod rotate;
mod stored;

const START: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00 UTC);
const DAY: Duration = Duration::DAY;
const SECOND: Duration = Duration::SECOND;

fn domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

fn web() -> SpiffeId {
    domain().identity("shop", "web")
}

fn pod() -> PodBinding {
    PodBinding { pod: "web-0".into(), uid: Some("u1".into()) }
}

fn fresh() -> Stored {
    settle(None, None, &Lifetimes::default(), START).unwrap().stored
}

fn settled(stored: Stored, now: OffsetDateTime) -> Settled<Stored, Step> {
    settle(Some(stored), None, &Lifetimes::default(), now).unwrap()
}

/// Parameters that ask for nothing.
fn nothing() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
}

fn request(params: &CertificateParams, key: &KeyPair) -> Vec<u8> {
    params.serialize_request(key).unwrap().der().to_vec()
}

fn good_request() -> SigningRequest {
    SigningRequest::parse(&request(&nothing(), &KeyPair::generate().unwrap())).unwrap()
}

/// What a peer that trusts `bundle` says at `at` of a client's chain.
fn verify(chain: &[impl AsRef<[u8]>], bundle: &TrustBundle, at: OffsetDateTime) -> Result<(), webpki::Error> {
    let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
    let roots: Vec<_> = bundle.roots().iter().map(|root| CertificateDer::from(root.as_ref())).collect();
    let anchors: Vec<_> = roots.iter().map(|root| anchor_from_trusted_cert(root).unwrap()).collect();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.unix_timestamp().try_into().unwrap()));
    let leaf = EndEntityCert::try_from(&chain[0])?;
    let usage = KeyUsage::client_auth();
    leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &chain[1..], at, usage, None, None).map(drop)
}
