//! Issuers that users bring.

use super::*;
use conduit_webhook_certs::to_pem;

const NAME: &str = "an authority of a user";

fn authority(path_length: u8) -> AuthorityProfile {
    AuthorityProfile { name: NAME, lifetime: 365 * DAY, path_length }
}

fn secret(chain: &str, key: &str, roots: &str) -> Entries {
    let entry = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    [entry("tls.crt", chain), entry("tls.key", key), entry("ca.crt", roots)].into()
}

fn read_secret(entries: &Entries) -> Result<Issuer, String> {
    Issuer::from_secret(entries, &domain(), START)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn accepted(issuer: &Issuer) -> Certified {
    let certified = issuer.certify(&good_request(), &web(), &pod(), DAY, START).unwrap();
    assert_eq!(verify(&certified.chain, issuer.trust_bundle(), START), Ok(()));
    certified
}

#[test]
fn an_issuer_below_a_root_or_below_another_issuer_signs_and_sends_what_leads_to_the_root() {
    let root = Authority::issue(authority(2), START).unwrap();
    let middle = root.issue_below(authority(1), START).unwrap();
    let issuer = middle.issue_below(authority(0), START).unwrap();
    let direct = read_secret(&secret(middle.certificate(), &middle.key(), root.certificate())).unwrap();
    assert_eq!(accepted(&direct).chain.len(), 2);
    let chain = [issuer.certificate(), middle.certificate(), root.certificate()].concat();
    let deep = read_secret(&secret(&chain, &issuer.key(), root.certificate())).unwrap();
    assert_eq!(accepted(&deep).chain.len(), 3, "the root is not sent, though it is in tls.crt");
    assert_eq!(deep.root_validity(), Validity { not_before: root.not_before(), not_after: root.not_after() });
}

#[test]
fn nothing_that_is_signed_outlives_what_leads_from_it_to_a_root() {
    let root = Authority::issue(authority(2), START).unwrap();
    let middle = root.issue_below(AuthorityProfile { lifetime: Duration::HOUR, ..authority(1) }, START).unwrap();
    let long = {
        // An authority never outlives the one above it where Conduit makes it; elsewhere it may.
        let key = KeyPair::generate().unwrap();
        let mut params = nothing();
        params.distinguished_name.push(DnType::CommonName, "outlives");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.signed_by(&key, &middle.issuer().unwrap()).unwrap().pem(), key.serialize_pem())
    };
    let chain = [long.0.as_str(), middle.certificate()].concat();
    let issuer = read_secret(&secret(&chain, &long.1, root.certificate())).unwrap();
    let end = START + Duration::HOUR;
    assert_eq!((issuer.validity().not_after, accepted(&issuer).not_after), (end, end));
    let names = std::collections::BTreeSet::from(["localhost".to_owned()]);
    assert_eq!(issuer.serving(&names, DAY, START).unwrap().not_after(), end);
    let refused = issuer.certify(&good_request(), &web(), &pod(), DAY, end);
    assert!(matches!(refused, Err(CertifyError::IssuerNotValid(_))));
}

#[test]
fn a_root_that_signs_itself_as_cert_manager_makes_it_is_not_sent() {
    let root = Authority::issue(authority(0), START).unwrap();
    let issuer = read_secret(&secret(root.certificate(), &root.key(), root.certificate())).unwrap();
    assert_eq!(accepted(&issuer).chain.len(), 1);
}

#[test]
fn keys_in_the_forms_that_others_write_are_read() {
    // An RSA key in PKCS #1 is what cert-manager makes unless it is told otherwise.
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let mut params = nothing();
    params.distinguished_name.push(DnType::CommonName, "rsa");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key).unwrap().pem();
    accepted(&read_secret(&secret(&certificate, &key.serialize_pem(), &certificate)).unwrap());
}

#[test]
fn the_root_that_signs_is_the_first_of_the_bundle_however_they_stand_in_the_secret() {
    let [signing, other] = [(); 2].map(|()| Authority::issue(authority(1), START).unwrap());
    let issuer = signing.issue_below(authority(0), START).unwrap();
    let bundle = |roots: [&Authority; 2]| {
        let roots = roots.map(Authority::certificate).concat();
        read_secret(&secret(issuer.certificate(), &issuer.key(), &roots)).unwrap().trust_bundle().clone()
    };
    let one = bundle([&signing, &other]);
    assert_eq!(one, bundle([&other, &signing]));
    assert_eq!(*one.roots()[0], **signing.der());
    assert_eq!(one.to_pem(), [to_pem(signing.der()), to_pem(other.der())].concat());
}

#[test]
fn a_private_key_beside_the_roots_is_not_published() {
    let root = Authority::issue(authority(0), START).unwrap();
    let spilled = [root.certificate(), &root.key()].concat();
    let issuer = read_secret(&secret(root.certificate(), &root.key(), &spilled)).unwrap();
    assert!(!issuer.trust_bundle().to_pem().contains("PRIVATE"));
}

#[test]
fn what_peers_would_refuse_is_refused_here_by_the_name_of_its_entry() {
    let root = Authority::issue(authority(1), START).unwrap();
    let issuer = root.issue_below(authority(0), START).unwrap();
    let below = issuer.issue_below(authority(0), START).unwrap();
    let stranger = Authority::issue(authority(1), START).unwrap();
    let good = secret(issuer.certificate(), &issuer.key(), root.certificate());
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = nothing().self_signed(&leaf_key).unwrap().pem();
    let powerless = {
        let key = KeyPair::generate().unwrap();
        let mut params = nothing();
        params.distinguished_name.push(DnType::CommonName, "powerless");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap().pem();
        secret(&certificate, &key.serialize_pem(), &certificate)
    };
    let without = |name: &str| {
        let mut entries = good.clone();
        entries.remove(name);
        entries
    };
    let accept = "tls.crt: must be an issuer whose certificates peers accept:";
    for (what, entries, said) in [
        ("no roots", without("ca.crt"), "ca.crt: must be there"),
        ("no certificate", without("tls.crt"), "tls.crt: must be there: the issuer's certificate"),
        ("no key", without("tls.key"), "tls.key: must be there: the issuer's private key"),
        ("garbage", secret("x", &issuer.key(), root.certificate()), "tls.crt: must be a certificate in PEM"),
        ("a leaf", secret(&leaf, &leaf_key.serialize_pem(), root.certificate()), "tls.crt: must be the certificate of"),
        ("a leaf as root", secret(issuer.certificate(), &issuer.key(), &leaf), "ca.crt: must be the certificate of"),
        ("another key", secret(issuer.certificate(), &root.key(), root.certificate()), "tls.key: must be the private"),
        ("another root", secret(issuer.certificate(), &issuer.key(), stranger.certificate()), accept),
        ("a missing link", secret(below.certificate(), &below.key(), root.certificate()), accept),
        (
            "too deep a path",
            secret(&[below.certificate(), issuer.certificate()].concat(), &below.key(), root.certificate()),
            accept,
        ),
        ("no right to sign", powerless, "tls.crt: must be allowed to sign certificates (key usage, keyCertSign)"),
    ] {
        let error = read_secret(&entries).unwrap_err();
        assert!(error.starts_with(said) && !error.contains("; "), "{what}: {error}");
    }
    assert_eq!(read_secret(&Entries::new()).unwrap_err().matches("must be there").count(), 3);
}

#[test]
fn an_issuer_whose_certificates_are_good_for_clients_or_for_servers_alone_is_refused() {
    for (usages, taken) in [
        (vec![], true),
        (vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth], true),
        (vec![ExtendedKeyUsagePurpose::ClientAuth], false),
        (vec![ExtendedKeyUsagePurpose::ServerAuth], false),
    ] {
        let root = Authority::issue(authority(1), START).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = nothing();
        params.distinguished_name.push(DnType::CommonName, "an issuer for some");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = usages.clone();
        let issuer = params.signed_by(&key, &root.issuer().unwrap()).unwrap();
        let read = read_secret(&secret(&issuer.pem(), &key.serialize_pem(), root.certificate()));
        assert_eq!(read.is_ok(), taken, "{usages:?}: {read:?}");
    }
}

#[test]
fn roots_that_proxies_would_not_take_are_refused_even_where_the_issuer_leads_to_another() {
    let root = Authority::issue(authority(1), START).unwrap();
    let issuer = root.issue_below(authority(0), START).unwrap();
    let beside = |others: &str| {
        let roots = [root.certificate(), others].concat();
        read_secret(&secret(issuer.certificate(), &issuer.key(), &roots)).map(drop)
    };
    let mut params = nothing();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A key usage twice, which only some libraries overlook.
    let usage = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 1, 6]);
    params.custom_extensions = vec![usage.clone(), usage];
    let odd = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let error = beside(&odd).unwrap_err();
    assert!(error.starts_with("ca.crt: must be certificates of roots: "), "{error}");

    let others = |count: usize| -> String {
        (0..count).map(|_| Authority::issue(authority(0), START).unwrap().certificate().to_owned()).collect()
    };
    assert_eq!(beside(&others(63)), Ok(()));
    assert_eq!(beside(&others(64)), Err("ca.crt: must hold at most 64 certificates, holds 65".to_owned()));
    assert_eq!(beside(&root.certificate().repeat(64)), Ok(()), "one that stands there twice is one");
}

#[test]
fn an_issuer_that_has_expired_is_read_and_signs_nothing() {
    let root = Authority::issue(authority(1), START - 400 * DAY).unwrap();
    let issuer = root.issue_below(authority(0), START - 400 * DAY).unwrap();
    let issuer = read_secret(&secret(issuer.certificate(), &issuer.key(), root.certificate())).unwrap();
    let refused = issuer.certify(&good_request(), &web(), &pod(), DAY, START);
    assert!(matches!(refused, Err(CertifyError::IssuerNotValid(_))));
}
