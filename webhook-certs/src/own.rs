//! A serving certificate that users bring themselves, in a Secret as cert-manager writes it.
//!
//! `tls.crt` is the certificate and those that lead from it towards an authority, `tls.key` its key, and `ca.crt` the
//! authorities that clients are told to trust. Everything that could make a client refuse it is found before it is served.

use crate::{Entries, EntryError, Leaf, Parts, TrustedAuthority, to_pem};
use rustls::{
    RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::aws_lc_rs,
    server::ParsedCertificate,
};
use rustls_pki_types::{ServerName, UnixTime};
use time::{Duration, OffsetDateTime};

const AUTHORITIES: &str = "ca.crt";
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// A serving certificate of a user's own.
#[derive(Clone, Debug)]
pub struct OwnCertificate {
    /// What is served.
    pub leaf: Leaf,
    /// The authorities that clients have to trust, in PEM.
    pub bundle: String,
}

impl OwnCertificate {
    /// Reads what a user's Secret holds, and tries at `now` whether a client that asks for `name` would accept it. One that
    /// has expired is read nevertheless.
    ///
    /// # Errors
    ///
    /// Every entry that is not what it should be.
    pub fn read(entries: &Entries, name: &str, now: OffsetDateTime) -> Result<Self, Vec<EntryError>> {
        let mut parts = Parts::new(entries);
        parts.require(&[
            (CHAIN, "the serving certificate, and those that lead to an authority"),
            (KEY, "its private key"),
            (AUTHORITIES, "the certificates of the authorities that clients trust"),
        ]);
        if !parts.is_good() {
            return Err(parts.into_faults());
        }
        let authorities = parts.single(AUTHORITIES, TrustedAuthority::read_all);
        let leaf = parts.pair([CHAIN, KEY], Leaf::read);
        let (Some(authorities), Some(leaf)) = (authorities, leaf) else { return Err(parts.into_faults()) };
        check(&leaf, &authorities, name, now).map_err(|fault| vec![fault])?;
        let bundle = authorities.iter().map(|authority| to_pem(authority.der())).collect();
        Ok(Self { leaf, bundle })
    }
}

/// Does what a client does.
fn check(leaf: &Leaf, authorities: &[TrustedAuthority], name: &str, now: OffsetDateTime) -> Result<(), EntryError> {
    let refused = |why: String| EntryError::new(CHAIN, format!("must be a certificate that clients accept: {why}"));
    let server_name = ServerName::try_from(name).map_err(|error| refused(error.to_string()))?;
    let certificate = ParsedCertificate::try_from(&leaf.chain()[0]).map_err(|error| refused(error.to_string()))?;
    verify_server_name(&certificate, &server_name)
        .map_err(|_| EntryError::new(CHAIN, format!("must be valid for the name {name}")))?;
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let added = roots.add(authority.der().clone());
        added.map_err(|error| EntryError::new(AUTHORITIES, format!("must be certificates of authorities: {error}")))?;
    }
    // Expiry is not looked at here: it passes, and is told elsewhere.
    let begins = leaf.not_before().saturating_add(Duration::SECOND);
    let at = now.clamp(begins, leaf.not_after().saturating_sub(Duration::SECOND).max(begins));
    let seconds = u64::try_from(at.unix_timestamp()).map_err(|error| refused(error.to_string()))?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &leaf.chain()[1..], at, algorithms)
        .map_err(|error| refused(format!("it must lead to an authority of {AUTHORITIES} ({error})")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, AuthorityProfile, ServingCertificate};

    const NOW: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00 UTC);
    const NAME: &str = "conduit-operator.conduit.svc";
    const ROOT: AuthorityProfile = AuthorityProfile { name: "root", lifetime: Duration::days(400), path_length: 1 };

    fn secret(chain: &str, key: &str, authorities: &str) -> Entries {
        let entry = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        [entry("tls.crt", chain), entry("tls.key", key), entry("ca.crt", authorities)].into()
    }

    fn leaf(authority: &Authority, name: &str) -> Leaf {
        Leaf::issue(authority, &[name.to_owned()].into(), Duration::days(30), NOW).unwrap()
    }

    fn read(entries: &Entries) -> Result<OwnCertificate, String> {
        OwnCertificate::read(entries, NAME, NOW)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn a_certificate_with_its_intermediate_is_served_and_only_certificates_are_published() {
        let root = Authority::issue(ROOT, NOW).unwrap();
        let middle = root.issue_below(AuthorityProfile { path_length: 0, ..ROOT }, NOW).unwrap();
        let leaf = leaf(&middle, NAME);
        let chain = [leaf.certificate(), middle.certificate()].concat();
        let spilled = [root.certificate(), &root.key()].concat();
        let own = read(&secret(&chain, &leaf.key(), &spilled)).unwrap();
        assert_eq!((own.leaf.chain().len(), own.bundle.as_str()), (2, root.certificate()));
        ServingCertificate::default().serve(&own.leaf).unwrap();
    }

    #[test]
    fn one_that_has_expired_is_read() {
        let root = Authority::issue(ROOT, NOW).unwrap();
        let leaf = leaf(&root, NAME);
        let entries = secret(leaf.certificate(), &leaf.key(), root.certificate());
        assert!(OwnCertificate::read(&entries, NAME, NOW + Duration::days(31)).is_ok());
    }

    #[test]
    fn what_a_client_would_refuse_is_refused_here_by_the_name_of_its_entry() {
        let [root, stranger] = [(); 2].map(|()| Authority::issue(ROOT, NOW).unwrap());
        let (good, other) = (leaf(&root, NAME), leaf(&root, "elsewhere"));
        let table = [
            (secret("x", &good.key(), root.certificate()), "tls.crt: must be a certificate in PEM"),
            (secret(good.certificate(), "x", root.certificate()), "tls.key: must be a private key in PEM"),
            (secret(good.certificate(), &good.key(), "x"), "ca.crt: must be a certificate in PEM"),
            (secret(good.certificate(), &good.key(), good.certificate()), "ca.crt: must be the certificate of an"),
            (
                secret(good.certificate(), &other.key(), root.certificate()),
                "tls.key: must be the private key of tls.crt",
            ),
            (
                secret(other.certificate(), &other.key(), root.certificate()),
                "tls.crt: must be valid for the name conduit-operator.conduit.svc",
            ),
            (
                secret(good.certificate(), &good.key(), stranger.certificate()),
                "tls.crt: must be a certificate that clients accept: it must lead to an authority of ca.crt",
            ),
        ];
        for (entries, said) in table {
            let error = read(&entries).unwrap_err();
            assert!(error.starts_with(said) && !error.contains("; "), "{error}");
        }
        assert_eq!(read(&Entries::new()).unwrap_err().matches("must be there").count(), 3);
    }
}
