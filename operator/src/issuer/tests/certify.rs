//! Certificates of workloads, and the operator's own.

use super::*;
use x509_parser::extensions::{GeneralName, ParsedExtension};

fn issuer() -> Issuer {
    Issuer::from_stored(&fresh()).unwrap()
}

#[test]
fn a_certificate_says_who_where_and_for_how_long_and_peers_accept_it() {
    let issuer = issuer();
    let certified = issuer.certify(&good_request(), &web(), &pod(), DAY, START).unwrap();
    assert_eq!(certified.not_after, START + DAY);
    assert_eq!(certified.chain.len(), 2, "the issuer follows, the root does not");
    verify(&certified.chain, issuer.trust_bundle(), START).unwrap();

    let (_, certificate) = X509Certificate::from_der(&certified.chain[0]).unwrap();
    assert_eq!(certificate.subject().iter_rdn().count(), 0);
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical, "it is the only name");
    assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]);
    assert!(!certificate.is_ca());
    assert_eq!(PodBinding::from_certificate(&certificate), Ok(pod()));
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    assert!(certificate.key_usage().unwrap().unwrap().value.digital_signature());
    let extensions = certificate.extensions();
    assert!(extensions.iter().any(|e| matches!(e.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(_))));
    let validity = certificate.validity();
    assert_eq!(validity.not_before.to_datetime(), START - Duration::minutes(5));
    assert_eq!(certificate.raw_serial().len(), 16);
}

#[test]
fn the_same_key_certified_twice_has_two_serial_numbers() {
    let (issuer, request) = (issuer(), good_request());
    let serial = || {
        let certified = issuer.certify(&request, &web(), &pod(), DAY, START).unwrap();
        X509Certificate::from_der(&certified.chain[0]).unwrap().1.raw_serial().to_vec()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn a_short_certificate_is_backdated_little() {
    let certified = issuer().certify(&good_request(), &web(), &pod(), Duration::minutes(1), START).unwrap();
    let (_, certificate) = X509Certificate::from_der(&certified.chain[0]).unwrap();
    assert_eq!(certificate.validity().not_before.to_datetime(), START - 6 * SECOND);
}

#[test]
fn nothing_outlives_the_issuer_and_one_that_is_not_valid_signs_nothing() {
    let issuer = issuer();
    let Validity { not_before, not_after } = issuer.validity();
    assert_eq!((not_before, not_after), (START - BACKDATING, START + 365 * DAY));
    let certify = |now| issuer.certify(&good_request(), &web(), &pod(), DAY, now);
    assert_eq!(certify(not_after - SECOND).unwrap().not_after, not_after);
    assert!(matches!(certify(not_after), Err(CertifyError::IssuerNotValid(_))));
    assert!(matches!(certify(not_before - 2 * DAY), Err(CertifyError::IssuerNotValid(_))));
}

#[test]
fn a_request_for_another_name_than_the_proven_one_is_refused() {
    let key = KeyPair::generate().unwrap();
    let named = |name: &SpiffeId| {
        let mut params = nothing();
        params.subject_alt_names = vec![SanType::URI(name.as_str().try_into().unwrap())];
        SigningRequest::parse(&request(&params, &key)).unwrap()
    };
    assert!(issuer().certify(&named(&web()), &web(), &pod(), DAY, START).is_ok());
    let other = named(&domain().identity("shop", "db"));
    let error = issuer().certify(&other, &web(), &pod(), DAY, START).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the request asks for \"spiffe://cluster.local/ns/shop/sa/db\": must be \
         spiffe://cluster.local/ns/shop/sa/web or nothing"
    );
}

#[test]
fn a_certificate_is_refused_by_who_trusts_another_root() {
    let later = settle(None, None, &Lifetimes::default(), START + SECOND).unwrap().stored;
    let stranger = Issuer::from_stored(&later).unwrap();
    let certified = issuer().certify(&good_request(), &web(), &pod(), DAY, START).unwrap();
    assert_eq!(verify(&certified.chain, stranger.trust_bundle(), START), Err(webpki::Error::UnknownIssuer));
}

#[test]
fn what_a_workload_got_signs_nothing_further() {
    let key = KeyPair::generate().unwrap();
    let issuer = issuer();
    let certified = issuer
        .certify(&SigningRequest::parse(&request(&nothing(), &key)).unwrap(), &web(), &pod(), DAY, START)
        .unwrap();
    let own = CertificateDer::from(certified.chain[0].to_vec());
    let below = rcgen::Issuer::from_ca_cert_der(&own, &key).unwrap();
    let forged = nothing().signed_by(&KeyPair::generate().unwrap(), &below).unwrap();
    let chain: Vec<&[u8]> = std::iter::once(&forged.der()[..]).chain(certified.chain.iter().map(|c| &c[..])).collect();
    assert!(verify(&chain, issuer.trust_bundle(), START).is_err());
}

#[test]
fn the_operators_own_certificate_leads_to_the_same_root() {
    let issuer = issuer();
    let names = ["conduit-operator.conduit.svc".to_owned()].into();
    let leaf = issuer.serving(&names, DAY, START).unwrap();
    assert_eq!((leaf.names(), leaf.not_after()), (&names, START + DAY));
    assert_eq!(leaf.chain().len(), 2);
    assert_eq!(&leaf.chain()[1], issuer.certificate());
}

#[test]
fn no_key_shows_in_debug_output() {
    let shown = format!("{:?} {:?}", issuer(), fresh());
    assert!(!shown.contains("PRIVATE") && !shown.contains("KeyPair"), "{shown}");
}
