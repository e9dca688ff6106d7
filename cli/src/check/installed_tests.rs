//! Each check of an installation both ways.

use super::super::finding::Unknown;
use super::*;
use crate::certificate::tests::{CHAIN, ROOT};
use crate::identity::tests::now;

fn after(duration: SignedDuration) -> Timestamp {
    now() + duration
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn operator() -> Operator {
    let arguments = ["--issuer-secret=", "--root-lifetime=87600h", "--issuer-lifetime=8760h"];
    Operator {
        version: Some(env!("CARGO_PKG_VERSION").into()),
        wanted: 2,
        ready: 2,
        arguments: arguments.map(Into::into).into(),
    }
}

fn facts() -> Facts {
    let expirations = [("root", 3650), ("issuer", 300), ("webhook", 1)];
    Facts {
        version: Ok(Version { major: 1, minor: 33 }),
        operator: Ok(Some(operator())),
        webhooks: Ok(WEBHOOKS.map(|name| (name.to_owned(), Some(ROOT.to_owned()))).into()),
        admission: Ok(Admission::Injected),
        definitions: Ok(vec![("serviceprofiles.conduit.io".into(), Definition::Current)]),
        secret: Ok(("conduit-identity".into(), true)),
        expirations: Ok(expirations.map(|(name, days)| (name.to_owned(), after(DAY * days))).into()),
        bundles: Ok(Bundles {
            wanted: ["shop".into()].into(),
            held: [("shop".into(), ROOT.into()), ("old".into(), ROOT.into())].into(),
        }),
        clocks: Ok(Clocks { here: now(), server: now(), nodes: vec![("a".into(), now())] }),
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
fn what_one_may_not_look_at_is_a_warning_everywhere() {
    let forbidden = || Unknown::Forbidden("look".into());
    let facts = Facts {
        version: Err(forbidden()),
        operator: Err(forbidden()),
        webhooks: Err(forbidden()),
        admission: Err(forbidden()),
        definitions: Err(forbidden()),
        secret: Err(forbidden()),
        expirations: Err(forbidden()),
        bundles: Err(forbidden()),
        clocks: Err(forbidden()),
        now: now(),
    };
    for check in CHECKS {
        let expected = Verdict::Unseen("not allowed to look, so this could not be looked at".into());
        assert_eq!((check.decide)(&facts), expected, "{}", check.id);
    }
}

#[test]
fn an_operator_without_a_ready_replica_fails_and_with_some_warns() {
    let with = |ready| {
        GROUP.verdict("operator-ready", &Facts { operator: Ok(Some(Operator { ready, ..operator() })), ..facts() })
    };
    assert_eq!(with(0), Verdict::failed("no replica is ready"));
    assert_eq!(with(1), Verdict::warning("1 of 2 replicas are ready"));
    let without = GROUP.verdict("operator-ready", &Facts { operator: Ok(None), ..facts() });
    assert!(matches!(without, Verdict::Failed(message) if message.starts_with("there is no Deployment")));
}

#[test]
fn another_version_is_a_warning() {
    let other = Operator { version: Some("9.9.9".into()), ..operator() };
    let said = GROUP.verdict("versions-match", &Facts { operator: Ok(Some(other)), ..facts() });
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(said, Verdict::warning(&format!("the operator is 9.9.9, this command {own}")));
}

#[test]
fn definitions_that_are_missing_fail_and_those_of_another_version_warn() {
    let with = |state| GROUP.verdict("crds-current", &Facts { definitions: Ok(vec![("x".into(), state)]), ..facts() });
    assert_eq!(with(Definition::Missing), Verdict::failed("x is missing"));
    assert_eq!(with(Definition::NotEstablished), Verdict::failed("x is not established"));
    assert_eq!(with(Definition::Different), Verdict::warning("x is of another version"));
}

#[test]
fn every_webhook_needs_an_authority_that_is_still_valid() {
    let with = |bundle: Option<Option<&str>>, now| {
        let mut webhooks: BTreeMap<_, _> = facts().webhooks.unwrap();
        match bundle {
            Some(bundle) => drop(webhooks.insert(WEBHOOKS[1].into(), bundle.map(Into::into))),
            None => drop(webhooks.remove(WEBHOOKS[1])),
        }
        GROUP.verdict("webhook-ca-bundle", &Facts { webhooks: Ok(webhooks), now, ..facts() })
    };
    assert_eq!(with(None, now()), Verdict::failed("webhook pod.injector.conduit.io is missing"));
    assert_eq!(with(Some(None), now()), Verdict::failed("webhook pod.injector.conduit.io has no caBundle"));
    let said = with(Some(Some("x")), now());
    assert!(matches!(said, Verdict::Failed(message) if message.contains("cannot be read")));
    let expired = with(Some(Some(CHAIN)), after(DAY * 400));
    assert_eq!(expired, Verdict::failed("webhook pod.injector.conduit.io has an expired caBundle"));
}

#[test]
fn a_pod_that_gets_no_proxy_fails_and_one_that_is_refused_could_not_be_tried() {
    let with = |admission| GROUP.verdict("webhook-reachable", &Facts { admission: Ok(admission), ..facts() });
    assert_eq!(with(Admission::NotInjected), Verdict::failed("the pod came back without a proxy"));
    assert_eq!(with(Admission::Unreachable("no route".into())), Verdict::failed("no route"));
    assert_eq!(with(Admission::Refused("quota".into())), Verdict::Unseen("could not be tried: quota".into()));
}

#[test]
fn a_secret_that_is_not_there_fails() {
    let said = GROUP.verdict("identity-secret", &Facts { secret: Ok(("mine".into(), false)), ..facts() });
    assert_eq!(said, Verdict::failed("there is no Secret mine"));
}

#[test]
fn a_signing_certificate_warns_in_the_last_sixty_days_or_the_last_tenth_of_its_life() {
    let with = |operator: Operator, certificate: &str, left: SignedDuration| {
        let mut expirations = facts().expirations.unwrap();
        expirations.insert(certificate.into(), after(left));
        let facts = Facts { operator: Ok(Some(operator)), expirations: Ok(expirations), ..facts() };
        match GROUP.verdict(&format!("{certificate}-valid"), &facts) {
            Verdict::Passed => "passed",
            Verdict::Warning(_) => "warning",
            Verdict::Unseen(_) => "unseen",
            Verdict::Failed(_) => "failed",
        }
    };
    let foreign =
        || Operator { arguments: vec!["--issuer-secret=mine".into(), "--issuer-lifetime=8760h".into()], ..operator() };
    let short = || Operator { arguments: vec!["--issuer-lifetime=1h".into()], ..operator() };
    for (operator, certificate, left, expected) in [
        // Ten years have a tenth of one year; sixty days count.
        (operator(), "root", DAY * 61, "passed"),
        (operator(), "root", DAY * 59, "warning"),
        // A tenth of a year are 36 days.
        (operator(), "issuer", DAY * 37, "passed"),
        (operator(), "issuer", DAY * 36, "warning"),
        (operator(), "issuer", SignedDuration::ZERO, "failed"),
        (short(), "issuer", SignedDuration::from_mins(7), "passed"),
        (short(), "issuer", SignedDuration::from_mins(5), "warning"),
        // Of a life that is not known: a tenth of ninety days.
        (foreign(), "issuer", DAY * 10, "passed"),
        (foreign(), "issuer", DAY * 8, "warning"),
    ] {
        assert_eq!(with(operator, certificate, left), expected, "{certificate} {left}");
    }
}

#[test]
fn the_webhooks_certificate_fails_once_it_has_expired_and_warns_before_that_where_only_its_user_can_renew_it() {
    let with = |left| {
        let expirations = [("webhook".to_owned(), after(left))].into();
        GROUP.verdict("webhook-certificate-valid", &Facts { expirations: Ok(expirations), ..facts() })
    };
    assert_eq!(with(SignedDuration::from_secs(1)), Verdict::Passed);
    assert_eq!(with(-SignedDuration::from_mins(5)), Verdict::failed("it expired 5m0s ago, at 2026-01-01T09:55:00Z"));
    let own = Operator { arguments: vec!["--webhook-certificate-secret=mine".into()], ..operator() };
    let users = |days| {
        let expirations = [("webhook".to_owned(), after(DAY * days))].into();
        let facts = Facts { operator: Ok(Some(own.clone())), expirations: Ok(expirations), ..facts() };
        GROUP.verdict("webhook-certificate-valid", &facts)
    };
    assert_eq!(users(9), Verdict::Passed);
    assert_eq!(users(8), Verdict::warning("it expires in 8d0h, at 2026-01-09T10:00:00Z"));
    let silent = GROUP.verdict("webhook-certificate-valid", &Facts { expirations: Ok(BTreeMap::new()), ..facts() });
    assert_eq!(silent, Verdict::Unseen("the operator does not say when the webhook certificate expires".into()));
}

#[test]
fn every_namespace_that_opted_in_needs_the_same_valid_roots() {
    let with = |held: &[(&str, &str)], now| {
        let held = held.iter().map(|(namespace, pem)| ((*namespace).to_owned(), (*pem).to_owned())).collect();
        let bundles = Bundles { wanted: ["shop".into()].into(), held };
        GROUP.verdict("trust-bundle-in-namespaces", &Facts { bundles: Ok(bundles), now, ..facts() })
    };
    assert_eq!(with(&[("old", ROOT)], now()), Verdict::failed("namespace shop has none"));
    let said = with(&[("shop", "x")], now());
    assert_eq!(said, Verdict::failed("that of namespace shop: expected certificates in PEM: found none"));
    let others = [("a", ROOT), ("b", CHAIN), ("shop", ROOT)];
    assert_eq!(with(&others, now()), Verdict::warning("other roots than elsewhere in: b"));
    assert_eq!(with(&[("shop", CHAIN)], after(DAY * 400)), Verdict::failed("all roots in namespace shop have expired"));
}

#[test]
fn clocks_that_are_more_than_a_minute_apart_are_named() {
    let with = |here: i64, node: i64| {
        let at = |seconds| after(SignedDuration::from_secs(seconds));
        let clocks = Clocks { here: at(here), server: now(), nodes: vec![("a".into(), at(node))] };
        GROUP.verdict("clock-skew", &Facts { clocks: Ok(clocks), ..facts() })
    };
    assert_eq!([with(60, 60), with(-60, -70)], [Verdict::Passed, Verdict::Passed]);
    assert_eq!(with(61, 0), Verdict::warning("this machine is 1m1s ahead of the API server"));
    assert_eq!(with(-300, 0), Verdict::warning("this machine is 5m0s behind the API server"));
    assert_eq!(with(0, 61), Verdict::warning("node a is 1m1s ahead of the API server"));
    assert_eq!(with(0, -71), Verdict::warning("node a is 1m11s behind the API server, or does not answer"));
}
