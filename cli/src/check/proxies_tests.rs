//! Each check of a namespace's proxies both ways.

use jiff::SignedDuration;

use super::super::finding::Unknown;
use super::*;
use crate::certificate::tests::{CHAIN, ROOT};
use crate::identity::Root;
use crate::identity::tests::{front, now, without};

fn pod(name: &str) -> Pod {
    let version = Some("0.1.0".into());
    Pod { name: name.into(), meshed: true, opted_in: true, proxy_ready: true, version, skip: None }
}

fn facts() -> Facts {
    Facts {
        pods: Ok(vec![pod("front-1")]),
        version: Ok(Some("0.1.0".into())),
        identities: vec![front()],
        streams: vec![("front-1".into(), Stream { connected: true, age: Some(0.0) })],
        silent: BTreeMap::new(),
        bundle: Ok(Some(ROOT.into())),
        objects: Ok(vec![Object { name: "TrafficPolicy tls".into(), untrue: Vec::new() }]),
        now: now(),
    }
}

#[test]
fn what_is_well_passes_everything() {
    for check in CHECKS {
        assert_eq!((check.decide)(&facts()), Verdict::Passed, "{}", check.id);
    }
}

#[test]
fn a_proxy_that_does_not_answer_is_named_by_every_check_that_asks_it() {
    let facts = Facts { silent: [("cart-0".into(), "no answer within 10 s".into())].into(), ..facts() };
    for id in ["proxy-identity-valid", "proxy-trusts-current-root", "proxy-config-acknowledged"] {
        assert_eq!(
            GROUP.verdict(id, &facts),
            Verdict::Unseen("cart-0 did not answer: no answer within 10 s".into()),
            "{id}"
        );
    }
}

#[test]
fn where_the_pods_may_not_be_listed_nothing_of_proxies_passes() {
    let facts = Facts { pods: Err(Unknown::Forbidden("list pods".into())), ..facts() };
    for check in CHECKS.iter().filter(|check| check.id != "policies-accepted") {
        assert!(matches!((check.decide)(&facts), Verdict::Unseen(_)), "{}", check.id);
    }
}

#[test]
fn a_proxy_that_is_not_ready_fails() {
    let waiting = Pod { proxy_ready: false, ..pod("front-2") };
    let said = GROUP.verdict("proxy-ready", &Facts { pods: Ok(vec![pod("front-1"), waiting]), ..facts() });
    assert_eq!(said, Verdict::failed("that of front-2 is not"));
    let unmeshed = Pod { meshed: false, proxy_ready: false, ..pod("a") };
    let said = GROUP.verdict("proxy-ready", &Facts { pods: Ok(vec![unmeshed]), ..facts() });
    assert_eq!(said, Verdict::warning("no pod of the namespace has a proxy"));
}

#[test]
fn a_pod_that_should_have_a_proxy_says_why_it_has_none() {
    let with = |opted_in, skip| {
        let pod = Pod { meshed: false, opted_in, skip, ..pod("a") };
        GROUP.verdict("skipped-pods", &Facts { pods: Ok(vec![pod]), ..facts() })
    };
    assert_eq!([with(false, None), with(true, Some(Skip::OptedOut))], [Verdict::Passed, Verdict::Passed]);
    assert_eq!(with(true, None), Verdict::warning("a: older than the label, or made while the webhook was not there"));
    assert_eq!(with(true, Some(Skip::HostNetwork)), Verdict::warning(&format!("a: {}", Skip::HostNetwork)));
}

#[test]
fn a_proxy_of_another_version_is_a_warning() {
    let with = |version: Option<&str>| {
        let pods = Ok(vec![Pod { version: version.map(Into::into), ..pod("a") }]);
        GROUP.verdict("proxy-versions-match", &Facts { pods, ..facts() })
    };
    assert_eq!(with(Some("0.0.9")), Verdict::warning("that of a is 0.0.9, the operator 0.1.0"));
    assert_eq!(with(None), Verdict::warning("that of a is of no known version, the operator 0.1.0"));
}

#[test]
fn an_identity_is_there_valid_and_renewed_in_time() {
    let at = |time: &str, identity: Identity| {
        let facts = Facts { identities: vec![identity], now: time.parse().unwrap(), ..facts() };
        GROUP.verdict("proxy-identity-valid", &facts)
    };
    assert_eq!(at("2026-01-01T20:24:00Z", front()), Verdict::Passed);
    let late = "that of front-1 ends in 3h30m and should have been renewed";
    assert_eq!(at("2026-01-01T20:30:00Z", front()), Verdict::warning(late));
    assert_eq!(at("2026-01-02T00:01:00Z", front()), Verdict::failed("that of front-1 expired 1m0s ago"));
    let troubled = Identity { last_renewal_error: Some("refused".into()), ..front() };
    assert_eq!(at("2026-01-01T17:00:00Z", troubled), Verdict::warning("that of front-1 ends in 7h0m: refused"));
    let none = "cart-0 has none yet: the operator does not answer: connection refused";
    assert_eq!(at("2026-01-01T10:00:00Z", without()), Verdict::failed(none));
}

#[test]
fn the_root_that_signs_is_trusted_and_the_first() {
    let root = |fingerprint: &str| Root {
        subject: "CN=other".into(),
        fingerprint: fingerprint.into(),
        not_after: now() + SignedDuration::from_hours(1),
    };
    let current = front().trust_roots.remove(0);
    let with = |trust_roots: Vec<Root>| {
        let identities = vec![Identity { trust_roots, ..front() }];
        GROUP.verdict("proxy-trusts-current-root", &Facts { identities, ..facts() })
    };
    assert_eq!(with(vec![current.clone(), root("00")]), Verdict::Passed);
    assert_eq!(with(vec![root("00"), current]), Verdict::warning("to front-1 another root is the one that signs"));
    assert_eq!(with(vec![root("00")]), Verdict::failed("front-1 does not trust CN=Conduit root"));
    let uncertified = Facts { identities: vec![without()], ..facts() };
    assert_eq!(GROUP.verdict("proxy-trusts-current-root", &uncertified), Verdict::Passed);
    let with = |bundle: Option<&str>| {
        GROUP.verdict("proxy-trusts-current-root", &Facts { bundle: Ok(bundle.map(Into::into)), ..facts() })
    };
    assert_eq!(with(None), Verdict::failed("the namespace has no ConfigMap conduit-trust-bundle"));
    assert!(matches!(with(Some("x")), Verdict::Failed(_)));
    assert!(matches!(with(Some(CHAIN)), Verdict::Failed(_)));
}

#[test]
fn a_proxy_that_is_not_connected_says_how_old_its_configuration_is() {
    let with = |age| {
        let streams = vec![("a".into(), Stream { connected: false, age })];
        GROUP.verdict("proxy-config-acknowledged", &Facts { streams, ..facts() })
    };
    assert_eq!(with(Some(61.4)), Verdict::warning("a is not connected; its configuration was the newest 61 s ago"));
    assert_eq!(with(None), Verdict::warning("a is not connected, and has no configuration"));
}

#[test]
fn what_is_refused_fails_and_what_is_not_in_force_everywhere_warns() {
    let with = |kind: &str| {
        let untrue = vec![(kind.to_owned(), "False".to_owned(), "because".to_owned())];
        let objects = Ok(vec![Object { name: "TrafficPolicy tls".into(), untrue }]);
        GROUP.verdict("policies-accepted", &Facts { objects, ..facts() })
    };
    assert_eq!(with("Accepted"), Verdict::failed("TrafficPolicy tls: Accepted=False: because"));
    assert_eq!(with("ResolvedRefs"), Verdict::failed("TrafficPolicy tls: ResolvedRefs=False: because"));
    assert_eq!(with("Programmed"), Verdict::warning("TrafficPolicy tls: Programmed=False: because"));
}
