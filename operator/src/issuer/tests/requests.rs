//! Signing requests, good and hostile.

use super::*;

fn refused(der: &[u8]) -> String {
    SigningRequest::parse(der).unwrap_err().to_string()
}

fn asking(ask: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = nothing();
    ask(&mut params);
    request(&params, &KeyPair::generate().unwrap())
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn strong_keys_are_taken_and_others_are_said_to_be_what_they_are() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let der = request(&nothing(), &KeyPair::generate_for(algorithm).unwrap());
        assert_eq!(SigningRequest::parse(&der).unwrap().name(), None);
    }
    let p521 = request(&nothing(), &KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap());
    let rsa = request(&nothing(), &KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
    let expected = "the key must be ECDSA P-256, ECDSA P-384 or Ed25519, is";
    assert_eq!(refused(&rsa), format!("{expected} RSA with 2048 bits"));
    assert_eq!(refused(&p521), format!("{expected} ECDSA secp521r1 (1.3.132.0.35)"));
    // secp256k1 and P-224: the curve's number of a good request, replaced. The key is looked at before the signature.
    let good = asking(|_| {});
    let p256 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let at = good.windows(p256.len()).position(|window| window == p256).unwrap();
    for (last, said) in [(0x01, "secp192r1"), (0x02, "1.2.840.10045.3.1.2")] {
        let mut weak = good.clone();
        weak[at + p256.len() - 1] = last;
        assert!(refused(&weak).starts_with(expected), "{said}: {}", refused(&weak));
    }
}

#[test]
fn at_most_one_uri_may_be_asked_for_and_nothing_else() {
    let der = asking(|params| params.subject_alt_names = vec![uri("spiffe://a/ns/b/sa/c")]);
    assert_eq!(SigningRequest::parse(&der).unwrap().name(), Some("spiffe://a/ns/b/sa/c"));
    let names = "the subject alternative name must be one URI or absent, has";
    let dns = SanType::DnsName("conduit-operator.conduit.svc".try_into().unwrap());
    for (asked, said) in [
        (vec![uri("spiffe://a/ns/b/sa/c"), uri("spiffe://a/ns/b/sa/d")], "more than one"),
        (vec![dns.clone()], "DNSName(\"conduit-operator.conduit.svc\")"),
        (vec![uri("spiffe://a/ns/b/sa/c"), dns], "DNSName(\"conduit-operator.conduit.svc\")"),
    ] {
        assert_eq!(refused(&asking(|params| params.subject_alt_names = asked)), format!("{names} {said}"));
    }
    let only = "the signing request must ask for nothing but a subject alternative name, asks for extension";
    let authority = asking(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(refused(&authority), format!("{only} basicConstraints (2.5.29.19)"));
    let usage = asking(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert_eq!(refused(&usage), format!("{only} keyUsage (2.5.29.15)"));
    let pod =
        asking(|params| params.custom_extensions = vec![PodBinding { pod: "x".into(), uid: None }.to_extension()]);
    assert!(refused(&pod).starts_with(only), "{}", refused(&pod));
}

#[test]
fn an_attribute_that_is_no_request_for_an_extension_is_refused() {
    let password = rcgen::Attribute { oid: &[1, 2, 840, 113549, 1, 9, 7], values: vec![0x31, 3, 0x0c, 1, b'x'] };
    let key = KeyPair::generate().unwrap();
    let der = nothing().serialize_request_with_attributes(&key, vec![password]).unwrap();
    assert!(refused(der.der()).contains("asks for attribute"), "{}", refused(der.der()));
}

#[test]
fn a_subject_is_refused_and_repeated_only_in_part() {
    let der = asking(|params| params.distinguished_name.push(DnType::CommonName, "admin"));
    assert_eq!(refused(&der), "the subject must be empty, is \"CN=admin\"");
    let long = asking(|params| params.distinguished_name.push(DnType::CommonName, "x".repeat(5000)));
    assert!(refused(&long).len() < 300);
}

#[test]
fn who_does_not_hold_the_key_gets_nothing() {
    let mut tampered = asking(|params| params.subject_alt_names = vec![uri("spiffe://a/ns/b/sa/c")]);
    let at = tampered.windows(4).position(|window| window == b"sa/c").unwrap();
    tampered[at + 3] = b'd';
    assert_eq!(SigningRequest::parse(&tampered), Err(RequestError::Signature));
}

#[test]
fn what_is_too_long_cut_off_or_followed_by_something_is_refused() {
    assert_eq!(SigningRequest::parse(&[0x30; MAX_REQUEST_BYTES + 1]), Err(RequestError::TooLong(8193)));
    let good = asking(|params| params.subject_alt_names = vec![uri("spiffe://a/ns/b/sa/c")]);
    for end in 0..good.len() {
        assert!(matches!(SigningRequest::parse(&good[..end]), Err(RequestError::Malformed(_))), "{end} bytes");
    }
    let followed = [&good[..], b"x"].concat();
    assert!(refused(&followed).ends_with("there is something after it"));
}

#[test]
fn no_byte_that_is_changed_makes_it_panic_or_changes_the_name_that_is_granted() {
    let good = asking(|params| params.subject_alt_names = vec![uri("spiffe://a/ns/b/sa/c")]);
    let parsed = SigningRequest::parse(&good).unwrap();
    for at in 0..good.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = good.clone();
            changed[at] ^= change;
            if let Ok(read) = SigningRequest::parse(&changed) {
                assert_eq!(read, parsed, "byte {at}");
            }
        }
    }
}
