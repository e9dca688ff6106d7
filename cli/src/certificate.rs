//! What a person wants to know of an X.509 certificate (RFC 5280), read from PEM. Pure; it decides nothing on trust.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_parser::oid_registry as oid;
use x509_parser::pem::Pem;
use x509_parser::prelude::{GeneralName, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

/// The label of a certificate in PEM.
const LABEL: &str = "CERTIFICATE";

/// The part of its life after which a proxy renews its certificate.
const RENEWED_AFTER: f64 = 0.7;

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// Hexadecimal.
    pub(crate) serial: String,
    /// `P-256`, `Ed25519`, or what else it is.
    pub(crate) key: String,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// Names of the kind that identities are.
    pub(crate) uris: Vec<String>,
    /// SHA-256 of the certificate, hexadecimal.
    pub(crate) fingerprint: String,
}

/// A text that is not certificates in PEM.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("expected certificates in PEM: {0}")]
pub(crate) struct Unreadable(String);

/// Every certificate of a text, in its order; there is at least one.
///
/// # Errors
/// The first thing in it that is no certificate, or that there is none.
pub(crate) fn read(text: &str) -> Result<Vec<Certificate>, Unreadable> {
    let mut certificates = Vec::new();
    for block in Pem::iter_from_buffer(text.as_bytes()) {
        let block = block.map_err(|error| Unreadable(error.to_string()))?;
        if block.label != LABEL {
            return Err(Unreadable(format!("found {:?}", block.label)));
        }
        let parsed = block.parse_x509().map_err(|error| Unreadable(error.to_string()))?;
        certificates.push(Certificate::of(&parsed, &block.contents)?);
    }
    if certificates.is_empty() {
        return Err(Unreadable("found none".into()));
    }
    Ok(certificates)
}

/// Two fingerprints in whichever way they are written.
pub(crate) fn same_fingerprint(one: &str, other: &str) -> bool {
    let bare = |text: &str| {
        let lower = text.to_ascii_lowercase();
        lower.trim_start_matches("sha256:").replace(':', "")
    };
    bare(one) == bare(other)
}

impl Certificate {
    fn of(parsed: &X509Certificate<'_>, der: &[u8]) -> Result<Self, Unreadable> {
        let names = parsed.subject_alternative_name().map_err(|error| Unreadable(error.to_string()))?;
        let uris = names.into_iter().flat_map(|extension| &extension.value.general_names);
        let validity = parsed.validity();
        Ok(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: hexadecimal(parsed.raw_serial()),
            key: key(parsed.public_key()),
            not_before: instant(validity.not_before.timestamp())?,
            not_after: instant(validity.not_after.timestamp())?,
            uris: uris
                .filter_map(|name| match name {
                    GeneralName::URI(uri) => Some((*uri).to_owned()),
                    _ => None,
                })
                .collect(),
            fingerprint: hexadecimal(&Sha256::digest(der)),
        })
    }

    /// How long it is still valid; negative once it has expired.
    pub(crate) fn left(&self, now: Timestamp) -> SignedDuration {
        self.not_after.duration_since(now)
    }

    /// When its proxy is to renew it, about.
    pub(crate) fn renewal(&self) -> Timestamp {
        self.not_before + self.life().mul_f64(RENEWED_AFTER)
    }

    /// From its first to its last second.
    pub(crate) fn life(&self) -> SignedDuration {
        self.not_after.duration_since(self.not_before)
    }
}

/// A duration as people say it: its largest unit, and the next smaller one where the largest alone would be coarse.
pub(crate) fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().unsigned_abs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days >= 10 => format!("{days}d"),
        () if days >= 1 => format!("{days}d{}h", hours % 24),
        () if hours >= 1 => format!("{hours}h{}m", minutes % 60),
        () if minutes >= 10 => format!("{minutes}m"),
        () if minutes >= 1 => format!("{minutes}m{}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

fn key(info: &SubjectPublicKeyInfo<'_>) -> String {
    let algorithm = &info.algorithm.algorithm;
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let curves = [(oid::OID_EC_P256, "P-256"), (oid::OID_NIST_EC_P384, "P-384"), (oid::OID_NIST_EC_P521, "P-521")];
    match curve {
        _ if *algorithm == oid::OID_SIG_ED25519 => "Ed25519".to_owned(),
        _ if *algorithm == oid::OID_PKCS1_RSAENCRYPTION => "RSA".to_owned(),
        Some(curve) if *algorithm == oid::OID_KEY_TYPE_EC_PUBLIC_KEY => {
            let named = curves.iter().find(|(known, _)| *known == curve).map(|(_, name)| (*name).to_owned());
            named.unwrap_or_else(|| format!("EC {curve}"))
        }
        _ => algorithm.to_string(),
    }
}

fn instant(seconds: i64) -> Result<Timestamp, Unreadable> {
    Timestamp::from_second(seconds).map_err(|error| Unreadable(error.to_string()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A workload's certificate and its issuer, valid from 2026-01-01T00:00:00Z for a day and for a year.
    pub(crate) const CHAIN: &str = include_str!("testdata/chain.pem");
    /// The root of [`CHAIN`], valid for ten years from then.
    pub(crate) const ROOT: &str = include_str!("testdata/root.pem");

    #[test]
    fn a_chain_is_read_in_its_order() {
        let chain = read(CHAIN).unwrap();
        assert_eq!(chain.len(), 2);
        assert_eq!(chain[0].uris, ["spiffe://cluster.local/ns/shop/sa/front"]);
        assert_eq!((chain[0].key.as_str(), chain[1].key.as_str()), ("P-256", "Ed25519"));
        assert_eq!(chain[0].issuer, chain[1].subject);
        assert_eq!(chain[0].life(), SignedDuration::from_hours(24));
        assert_eq!(chain[0].renewal().to_string(), "2026-01-01T16:48:00Z");
    }

    #[test]
    fn a_fingerprint_is_the_same_however_it_is_written() {
        let fingerprint = &read(ROOT).unwrap()[0].fingerprint;
        assert_eq!(fingerprint.len(), 64);
        let pairs: Vec<_> = fingerprint.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
        assert!(same_fingerprint(fingerprint, &pairs.join(":").to_uppercase()));
        assert!(same_fingerprint(fingerprint, &format!("SHA256:{}", pairs.join(":"))));
        assert!(!same_fingerprint(fingerprint, &read(CHAIN).unwrap()[0].fingerprint));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let said = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(said(""), "expected certificates in PEM: found none");
        assert_eq!(
            said("-----BEGIN THING-----\nMAA=\n-----END THING-----\n"),
            "expected certificates in PEM: found \"THING\""
        );
        assert!(said("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").starts_with("expected"));
        assert!(said(&format!("{ROOT}-----BEGIN CERTIFICATE-----\n")).starts_with("expected"));
    }

    #[test]
    fn durations_are_said_in_one_or_two_units() {
        let spans = [0, 59, 61, 3599, 3660, 86_399, 90_000, 864_000, 315_360_000];
        let said = spans.map(|seconds| span(SignedDuration::from_secs(seconds)));
        assert_eq!(said, ["0s", "59s", "1m1s", "59m", "1h1m", "23h59m", "1d1h", "10d", "3650d"]);
    }
}
