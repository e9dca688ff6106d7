//! When a part of a serving identity is made anew, decided apart from making it.
//!
//! # How trust survives rotation
//!
//! A peer trusts a bundle that reaches it late: the API server reads `caBundle` at once, but a proxy reads a file that
//! its kubelet refreshes within a minute or two, and a node may be cut off for longer. So an authority goes through
//! three states, and one move is made at a time:
//!
//! 1. *next*: made [`AUTHORITY_RENEWAL`] before the signing one ends, and in the bundle from then on. It signs nothing.
//! 2. *signing*: after it has been in the bundle for [`OVERLAP`], the next authority takes over and the serving
//!    certificate is issued anew, in one step. Who has read the bundle in the last day trusts it already.
//! 3. *previous*: in the bundle until it expires, for replicas that still serve what it signed. Its key is dropped.
//!
//! Serving certificates are renewed [`LEAF_RENEWAL`] before they end. An operator that was down for so long that the
//! authority expired starts over; nobody trusts anything that it held.
//!
//! Validity that has not begun yet is no reason to issue anything: the clock that is behind may be the one here, and a
//! replica with a wrong clock must not throw away what all others trust.

use crate::{
    Authority, AuthorityProfile, BACKDATING, CertificateError, Decision, Leaf, Settled, Stored, TrustedAuthority,
    settle_by,
};
use std::collections::BTreeSet;
use time::{Duration, OffsetDateTime};

/// How long an authority is valid. Much longer than what it signs, so that it changes rarely; short enough that rotation
/// is something that happens and not something that is said to work.
pub const AUTHORITY_LIFETIME: Duration = Duration::days(365);
/// How long a serving certificate is valid, at most: it never outlives its authority.
pub const LEAF_LIFETIME: Duration = Duration::days(30);
/// A serving certificate that ends sooner than this is renewed: two thirds of its life are over.
pub const LEAF_RENEWAL: Duration = Duration::days(10);
/// When the signing authority ends sooner than this, the next one is announced.
pub const AUTHORITY_RENEWAL: Duration = Duration::days(90);
/// How long an authority is trusted before it signs.
pub const OVERLAP: Duration = Duration::days(1);

const AUTHORITY: AuthorityProfile =
    AuthorityProfile { name: "conduit serving authority", lifetime: AUTHORITY_LIFETIME, path_length: 0 };

/// One step of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new authority and a serving certificate: there was nothing usable.
    Everything,
    /// The authority that will sign next, to be trusted from now on.
    NextAuthority,
    /// The next authority takes over and signs a serving certificate.
    TakeOver,
    /// A serving certificate by the authority that signs.
    Leaf,
    /// An authority that signed before has expired and leaves the bundle.
    ForgetPrevious,
}

/// What to do at `now` for a serving identity that has to be valid for `names`.
pub fn decide(now: OffsetDateTime, stored: Option<&Stored>, names: &BTreeSet<String>) -> Decision<Step> {
    let Some(stored) = stored else { return Decision::Issue(Step::Everything) };
    let expired = now >= stored.authority.not_after();
    let take_over = stored.next.as_ref().map(trusted_for_long_enough);
    let announce = stored.authority.not_after() - AUTHORITY_RENEWAL;
    match (&stored.next, take_over) {
        (Some(next), _) if now >= next.not_after() => return Decision::Issue(Step::Everything),
        (Some(_), Some(due)) if now >= due || expired => return Decision::Issue(Step::TakeOver),
        (None, _) if expired => return Decision::Issue(Step::Everything),
        (None, _) if now >= announce => return Decision::Issue(Step::NextAuthority),
        _ => {}
    }
    let Some(leaf) = &stored.leaf else { return Decision::Issue(Step::Leaf) };
    let renewal = leaf.not_after() - LEAF_RENEWAL;
    // A leaf that is as long-lived as its authority lets it be cannot be made to last longer.
    let outlived = leaf.not_after() >= stored.authority.not_after() && now < leaf.not_after();
    if (now >= renewal && !outlived) || !names.is_subset(leaf.names()) {
        return Decision::Issue(Step::Leaf);
    }
    let forget = stored.previous.as_ref().map(TrustedAuthority::not_after);
    if forget.is_some_and(|expired| now >= expired) {
        return Decision::Issue(Step::ForgetPrevious);
    }
    let due = [Some(take_over.unwrap_or(announce)), (!outlived).then_some(renewal), forget];
    Decision::Keep { until: due.into_iter().flatten().fold(stored.authority.not_after(), OffsetDateTime::min) }
}

/// Makes every step that is due at `now`.
///
/// # Errors
///
/// As [`apply`].
pub fn settle(
    stored: Option<Stored>,
    names: &BTreeSet<String>,
    now: OffsetDateTime,
) -> Result<Settled<Stored, Step>, CertificateError> {
    settle_by(stored, |stored| decide(now, stored, names), |step, stored| apply(step, stored, names, now))
}

/// Carries out one step. What a step does not touch stays as it was.
///
/// # Errors
///
/// As [`Authority::issue`] and [`Leaf::issue`].
pub fn apply(
    step: Step,
    stored: Option<Stored>,
    names: &BTreeSet<String>,
    now: OffsetDateTime,
) -> Result<Stored, CertificateError> {
    let Some(stored) = stored else { return everything(names, now) };
    match step {
        Step::Everything => everything(names, now),
        Step::NextAuthority => Ok(Stored { next: Some(Authority::issue(AUTHORITY, now)?), ..stored }),
        Step::TakeOver => match stored.next {
            Some(next) => {
                let leaf = Some(Leaf::issue(&next, names, LEAF_LIFETIME, now)?);
                let previous = Some(TrustedAuthority::from_authority(&stored.authority));
                Ok(Stored { authority: next, next: None, previous, leaf })
            }
            None => Ok(Stored { next: Some(Authority::issue(AUTHORITY, now)?), ..stored }),
        },
        Step::Leaf => Ok(Stored { leaf: Some(Leaf::issue(&stored.authority, names, LEAF_LIFETIME, now)?), ..stored }),
        Step::ForgetPrevious => Ok(Stored { previous: None, ..stored }),
    }
}

fn everything(names: &BTreeSet<String>, now: OffsetDateTime) -> Result<Stored, CertificateError> {
    let authority = Authority::issue(AUTHORITY, now)?;
    let leaf = Some(Leaf::issue(&authority, names, LEAF_LIFETIME, now)?);
    Ok(Stored { authority, next: None, previous: None, leaf })
}

/// When an authority has been trusted for long enough to sign.
fn trusted_for_long_enough(next: &Authority) -> OffsetDateTime {
    next.not_before() + BACKDATING + OVERLAP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;

    const START: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00 UTC);

    fn names() -> BTreeSet<String> {
        BTreeSet::from(["conduit-operator.conduit.svc".to_owned()])
    }

    fn fresh() -> Stored {
        apply(Step::Everything, None, &names(), START).unwrap()
    }

    #[test]
    fn nothing_stored_means_everything_is_issued() {
        assert_eq!(decide(START, None, &names()), Decision::Issue(Step::Everything));
    }

    #[test]
    fn each_step_is_due_from_its_boundary_on_and_not_a_second_before() {
        let second = Duration::seconds(1);
        let with_next = || apply(Step::NextAuthority, Some(fresh()), &names(), START).unwrap();
        let keep_leaf = |mut stored: Stored, now| {
            stored.leaf = Some(Leaf::issue(&stored.authority, &names(), LEAF_LIFETIME, now).unwrap());
            stored
        };
        let leaf_due = START + LEAF_LIFETIME - LEAF_RENEWAL;
        let announce_due = START + AUTHORITY_LIFETIME - AUTHORITY_RENEWAL;
        let take_over_due = START + OVERLAP;
        let forget_due = START + AUTHORITY_LIFETIME;
        let table = [
            ("renew the leaf", fresh(), leaf_due, Step::Leaf),
            ("announce", keep_leaf(fresh(), announce_due - second), announce_due, Step::NextAuthority),
            ("take over", with_next(), take_over_due, Step::TakeOver),
            ("start over", keep_leaf(with_next(), START), START + AUTHORITY_LIFETIME, Step::Everything),
        ];
        for (what, stored, due, step) in table {
            if step != Step::Everything {
                let before = decide(due - second, Some(&stored), &names());
                assert_eq!(before, Decision::Keep { until: due }, "{what}, a second before");
            }
            assert_eq!(decide(due, Some(&stored), &names()), Decision::Issue(step), "{what}");
        }
        let later = START + Duration::days(100);
        let stored = apply(Step::NextAuthority, Some(fresh()), &names(), later).unwrap();
        let stored = apply(Step::TakeOver, Some(stored), &names(), later + OVERLAP).unwrap();
        let stored = keep_leaf(stored, forget_due - Duration::days(1));
        assert_eq!(decide(forget_due - second, Some(&stored), &names()), Decision::Keep { until: forget_due });
        assert_eq!(decide(forget_due, Some(&stored), &names()), Decision::Issue(Step::ForgetPrevious));
    }

    #[test]
    fn an_expired_authority_gives_way_to_a_next_one_that_peers_trust_already() {
        let announced = START + AUTHORITY_LIFETIME - Duration::hours(2);
        let stored = apply(Step::NextAuthority, Some(fresh()), &names(), announced).unwrap();
        let expired = Some(START + AUTHORITY_LIFETIME);
        assert_eq!(expired.map(|now| decide(now, Some(&stored), &names())), Some(Decision::Issue(Step::TakeOver)));
    }

    #[test]
    fn a_clock_that_is_behind_throws_nothing_away() {
        let stored = fresh();
        assert!(matches!(decide(START - Duration::days(3), Some(&stored), &names()), Decision::Keep { .. }));
    }

    #[test]
    fn a_name_that_the_leaf_lacks_renews_it_and_one_too_many_does_not() {
        let stored = fresh();
        let mut more = names();
        more.insert("localhost".to_owned());
        assert_eq!(decide(START, Some(&stored), &more), Decision::Issue(Step::Leaf));
        let renewed = apply(Step::Leaf, Some(stored), &more, START).unwrap();
        assert!(matches!(decide(START, Some(&renewed), &names()), Decision::Keep { .. }));
    }

    #[test]
    fn a_leaf_never_outlives_its_authority_and_is_not_renewed_for_that() {
        let late = START + AUTHORITY_LIFETIME - Duration::days(5);
        let mut stored = apply(Step::Leaf, Some(fresh()), &names(), late).unwrap();
        stored.next = Some(Authority::issue(AUTHORITY, late).unwrap());
        assert_eq!(stored.leaf.as_ref().unwrap().not_after(), stored.authority.not_after());
        assert!(matches!(decide(late, Some(&stored), &names()), Decision::Keep { .. }));
    }

    #[test]
    fn through_three_years_of_days_whoever_read_the_bundle_a_day_ago_trusts_what_is_served() {
        let mut stored = fresh();
        let mut yesterday = stored.bundle();
        let mut authorities = 1;
        for day in 1..=3 * 365 {
            let now = START + Duration::days(day);
            let Settled { stored: rotated, steps, .. } = settle(Some(stored), &names(), now).unwrap();
            assert!(!steps.contains(&Step::Everything), "day {day}: trust was lost");
            authorities += steps.iter().filter(|step| **step == Step::NextAuthority).count();
            assert!(yesterday.contains(rotated.authority.certificate().trim()), "day {day}: signs untrusted");
            assert!(rotated.leaf.as_ref().unwrap().not_after() > now + Duration::days(1), "day {day}: leaf ends");
            yesterday = rotated.bundle();
            // What is kept in between is only what the entries hold.
            let back = read(&rotated.entries());
            assert_eq!(back.faults, []);
            stored = back.stored.unwrap();
        }
        assert_eq!(authorities, 4);
    }
}
