//! An issuer that users bring themselves, in a Secret as cert-manager writes it.
//!
//! `tls.crt` is the issuer's certificate and those that lead from it towards a root, `tls.key` its key, and `ca.crt` the roots
//! that the whole mesh trusts. Everything that could make peers refuse what it signs is found before it signs anything.

use super::{Issuer, PodBinding};
use conduit_model::{TrustDomain, mtls::MAX_ROOTS};
use conduit_webhook_certs::{Authority, Entries, EntryError, Parts, TrustedAuthority, certificates};
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::slice;
use time::{Duration, OffsetDateTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

const ROOTS: &str = "ca.crt";
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

impl Issuer {
    /// Reads the issuer that a user's Secret holds, and tries at `now` whether peers would accept what it signs for `domain`.
    /// One that has expired is read nevertheless: it signs nothing.
    ///
    /// # Errors
    ///
    /// Every entry that is not what it should be.
    pub fn from_secret(entries: &Entries, domain: &TrustDomain, now: OffsetDateTime) -> Result<Self, Vec<EntryError>> {
        let mut parts = Parts::new(entries);
        parts.require(&[
            (CHAIN, "the issuer's certificate, and those that lead to a root"),
            (KEY, "the issuer's private key"),
            (ROOTS, "the certificates of the roots that the mesh trusts"),
        ]);
        if !parts.is_good() {
            return Err(parts.into_faults());
        }
        let roots = parts.single(ROOTS, TrustedAuthority::read_all);
        let authority = parts.pair([CHAIN, KEY], Authority::read);
        let chain = authority.as_ref().and_then(|_| parts.single(CHAIN, certificates));
        let (Some(mut roots), Some(authority), Some(mut chain)) = (roots, authority, chain) else {
            return Err(parts.into_faults());
        };
        chain.retain(|certificate| !roots.iter().any(|root| root.der() == certificate));
        let ends_at = signing_root(&authority, &chain, &roots, domain, now).map_err(|fault| vec![fault])?;
        roots.swap(0, ends_at);
        roots[1..].sort_by(|one, other| one.der().cmp(other.der()));
        let ends = chain.iter().map(|certificate| end(certificate)).collect::<Result<Vec<_>, _>>();
        let ends = ends.map_err(|fault| vec![fault])?;
        let issuer = ends.into_iter().fold(Self::new(authority, chain, &roots), Self::until);
        match issuer.trust_bundle().roots().len() {
            // Proxies take no larger bundle.
            many if many > MAX_ROOTS => {
                let expected = format!("must hold at most {MAX_ROOTS} certificates, holds {many}");
                Err(vec![EntryError::new(ROOTS, expected)])
            }
            _ => Ok(issuer),
        }
    }
}

/// The place of the root that what `authority` signs leads to, tried with a certificate for nobody.
fn signing_root(
    authority: &Authority,
    chain: &[CertificateDer<'static>],
    roots: &[TrustedAuthority],
    domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<usize, EntryError> {
    check_usage(authority)?;
    let refused =
        |why: String| EntryError::new(CHAIN, format!("must be an issuer whose certificates peers accept: {why}"));
    // Expiry is not looked at here: it passes, and is told elsewhere.
    let begins = authority.not_before().saturating_add(Duration::SECOND);
    let at = now.clamp(begins, authority.not_after().saturating_sub(Duration::SECOND).max(begins));
    let id = domain.identity("conduit", "trial");
    let pod = PodBinding { pod: "trial".to_owned(), uid: None };
    let key = KeyPair::generate().map_err(|error| refused(error.to_string()))?;
    let trial = Issuer::new(authority.clone(), chain.to_vec(), roots)
        .sign(&key, &id, &pod, Duration::minutes(1), at)
        .map_err(|error| refused(error.to_string()))?;
    let leaf = CertificateDer::from(trial.chain[0].as_ref());
    let leaf = EndEntityCert::try_from(&leaf).map_err(|error| refused(error.to_string()))?;
    let seconds = u64::try_from(at.unix_timestamp()).map_err(|error| refused(error.to_string()))?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    // Each of them, wherever the path ends: a proxy that cannot read one takes none.
    let anchors: Result<Vec<_>, _> = roots.iter().map(|root| anchor_from_trusted_cert(root.der())).collect();
    let anchors = anchors.map_err(|error| EntryError::new(ROOTS, format!("must be certificates of roots: {error}")))?;
    let mut reason = format!("its certificates must lead to one of {ROOTS}");
    for (place, anchor) in anchors.iter().enumerate() {
        // A workload is a client of some and a server of others, and an issuer may be good for one of both only.
        let verified = [KeyUsage::client_auth(), KeyUsage::server_auth()].into_iter().try_for_each(|usage| {
            let anchors = slice::from_ref(anchor);
            leaf.verify_for_usage(ALL_VERIFICATION_ALGS, anchors, chain, at, usage, None, None).map(drop)
        });
        match verified {
            Ok(()) => return Ok(place),
            Err(webpki::Error::UnknownIssuer) => {}
            Err(error) => reason = error.to_string(),
        }
    }
    Err(refused(reason))
}

/// When a certificate of the chain ends.
fn end(certificate: &CertificateDer<'_>) -> Result<OffsetDateTime, EntryError> {
    match X509Certificate::from_der(certificate) {
        Ok((_, certificate)) => Ok(certificate.validity().not_after.to_datetime()),
        Err(error) => Err(EntryError::new(CHAIN, format!("must be X.509 certificates: {error}"))),
    }
}

/// Not every verifier looks at what an authority's key may be used for. Those that do would refuse everything.
fn check_usage(authority: &Authority) -> Result<(), EntryError> {
    let expected = || EntryError::new(CHAIN, "must be allowed to sign certificates (key usage, keyCertSign)");
    let (_, certificate) = X509Certificate::from_der(authority.der()).map_err(|_| expected())?;
    let usage = certificate.key_usage().map_err(|_| expected())?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) { Err(expected()) } else { Ok(()) }
}
