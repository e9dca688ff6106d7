//! When parts rotate.

use super::*;

fn decided(stored: &Stored, now: OffsetDateTime) -> Decision<Step> {
    decide(now, Some(stored), None, &Lifetimes::default())
}

/// An issuer that was made at `now`, so that nothing else is due.
fn with_issuer_of(mut stored: Stored, now: OffsetDateTime) -> Stored {
    let profile = AuthorityProfile { name: "issuer", lifetime: Lifetimes::default().issuer(), path_length: 0 };
    stored.issuer = Some(stored.root.issue_below(profile, now).unwrap());
    stored
}

fn rotated(stored: Stored, rotate: Rotate, now: OffsetDateTime) -> Settled<Stored, Step> {
    settle(Some(stored), Some(rotate), &Lifetimes::default(), now).unwrap()
}

#[test]
fn nothing_stored_means_everything_is_made() {
    let lifetimes = Lifetimes::default();
    assert_eq!(decide(START, None, None, &lifetimes), Decision::Issue(Step::Everything));
    let Settled { stored, steps, until } = settle(None, Some(Rotate::Root), &lifetimes, START).unwrap();
    assert_eq!(steps, [Step::Everything], "what was just made is not rotated");
    assert_eq!(stored.root.not_after(), START + 3650 * DAY);
    assert_eq!(until, START + 365 * DAY - 365 * DAY / 3);
}

#[test]
fn each_step_is_due_from_its_boundary_on_and_not_a_second_before() {
    let root_ends = START + 3650 * DAY;
    let announce = root_ends - 367 * DAY;
    let announced = rotated(fresh(), Rotate::Root, START).stored;
    let taken_over = settled(announced.clone(), START + DAY).stored;
    for (what, stored, due, step) in [
        ("issuer", fresh(), START + 365 * DAY - 365 * DAY / 3, Step::Issuer),
        ("announce", with_issuer_of(fresh(), announce - DAY), announce, Step::NextRoot),
        ("take over", announced, START + DAY, Step::TakeOver),
        ("forget", taken_over, START + 3 * DAY, Step::ForgetPrevious),
    ] {
        assert_eq!(decided(&stored, due - SECOND), Decision::Keep { until: due }, "{what}, a second before");
        assert_eq!(decided(&stored, due), Decision::Issue(step), "{what}");
    }
    assert_eq!(decided(&with_issuer_of(fresh(), root_ends - DAY), root_ends), Decision::Issue(Step::Everything));
}

#[test]
fn a_root_that_was_asked_for_is_announced_signs_after_the_overlap_and_the_old_one_leaves_last() {
    let first = fresh();
    let announced = rotated(first.clone(), Rotate::Root, START);
    assert_eq!(announced.steps, [Step::NextRoot]);
    let bundle = |stored: &Stored| Issuer::from_stored(stored).unwrap().trust_bundle().roots().to_vec();
    let (old, next) = (bundle(&first)[0].clone(), bundle(&announced.stored)[1].clone());
    assert_eq!(bundle(&announced.stored), [old.clone(), next.clone()]);
    assert_eq!(rotated(announced.stored.clone(), Rotate::Root, START).steps, [], "one at a time");

    let taken_over = settled(announced.stored, START + DAY);
    assert_eq!(taken_over.steps, [Step::TakeOver]);
    assert_eq!(bundle(&taken_over.stored), [next.clone(), old]);
    assert!(!taken_over.stored.entries().contains_key("next-root.key"), "no key is kept of what does not sign");
    let done = settled(taken_over.stored, START + 3 * DAY);
    assert_eq!((done.steps, bundle(&done.stored)), (vec![Step::ForgetPrevious], vec![next]));
}

#[test]
fn an_issuer_that_was_asked_for_is_made_at_once_and_changes_nobodys_trust() {
    let first = fresh();
    let before = Issuer::from_stored(&first).unwrap();
    let Settled { stored, steps, .. } = rotated(first, Rotate::Issuer, START + DAY);
    let after = Issuer::from_stored(&stored).unwrap();
    assert_eq!((steps, after.trust_bundle()), (vec![Step::Issuer], before.trust_bundle()));
    assert_ne!(after, before);
}

#[test]
fn roots_that_are_rotated_one_after_the_other_all_stay_while_something_is_below_them() {
    let mut stored = fresh();
    for round in 0..3 {
        let announced = rotated(stored, Rotate::Root, START + round * DAY).stored;
        stored = settled(announced, START + (round + 1) * DAY).stored;
    }
    assert_eq!(stored.previous_roots.len(), 3);
    assert_eq!(settled(stored, START + 5 * DAY).stored.previous_roots.len(), 0);
}

#[test]
fn an_issuer_that_expired_while_the_operator_was_away_is_issued_again_and_nothing_else() {
    let stored = fresh();
    let away = settled(stored.clone(), START + 500 * DAY);
    assert_eq!((away.steps, away.stored.root.der()), (vec![Step::Issuer], stored.root.der()));
}

#[test]
fn an_expired_root_gives_way_to_a_next_one_that_peers_trust_already() {
    let late = START + 3650 * DAY - Duration::hours(2);
    let announced = settled(fresh(), late).stored;
    assert!(announced.next_root.is_some());
    let Settled { stored, steps, .. } = settled(announced.clone(), START + 3650 * DAY);
    assert_eq!((steps, stored.root.der()), (vec![Step::TakeOver], announced.next_root.unwrap().der()));
}

#[test]
fn what_is_signed_at_the_very_end_of_a_root_is_not_renewed_for_ever() {
    let end = START + 3650 * DAY;
    for left in [1, 60, 1_000, 10_000] {
        let Settled { stored, steps, .. } = settled(fresh(), end - left * SECOND);
        assert_eq!(steps, [Step::NextRoot, Step::Issuer]);
        assert_eq!(stored.issuer.unwrap().not_after(), end);
    }
}

#[test]
fn a_clock_that_is_behind_throws_nothing_away() {
    assert!(matches!(decided(&fresh(), START - 30 * DAY), Decision::Keep { .. }));
}

#[test]
fn the_shortest_lifetimes_that_are_allowed_settle_too() {
    let periods = Periods { root: SECOND * 500, issuer: SECOND * 180, certificate: SECOND * 60, overlap: SECOND * 10 };
    let lifetimes = Lifetimes::try_from(periods).unwrap();
    let mut stored = None;
    let mut announced = 0;
    for second in 0..3_000 {
        let Settled { stored: settled, steps, until } =
            settle(stored, None, &lifetimes, START + second * SECOND).unwrap();
        assert!(until > START + second * SECOND);
        assert!(steps.len() <= 2 && (second == 0) == steps.contains(&Step::Everything), "{second}: {steps:?}");
        announced += steps.iter().filter(|step| **step == Step::NextRoot).count();
        stored = Some(settled);
    }
    assert!((10..=13).contains(&announced), "{announced}");
}

/// Twelve years of days, so that a root ends, with a root rotated by hand now and then: a peer whose bundle is an overlap old accepts what is
/// issued today, and whoever reads today's bundle accepts whatever has not expired yet.
#[test]
fn whoever_read_the_bundle_an_overlap_ago_trusts_what_is_issued() {
    let mut stored = fresh();
    let mut yesterdays = Issuer::from_stored(&stored).unwrap().trust_bundle().clone();
    let mut yesterdays_chain: Option<Vec<bytes::Bytes>> = None;
    let (mut roots, mut issuers) = (1, 1);
    for day in 1..=12 * 365 {
        let now = START + day * DAY;
        let rotate = match day % 500 {
            70 | 71 => Some(Rotate::Root),
            73 => Some(Rotate::Issuer),
            _ => None,
        };
        let rotate = rotate.filter(|_| day < 3 * 365);
        let Settled { stored: rotated, steps, .. } = settle(Some(stored), rotate, &Lifetimes::default(), now).unwrap();
        assert!(!steps.contains(&Step::Everything), "day {day}: trust was lost");
        roots += steps.iter().filter(|step| **step == Step::NextRoot).count();
        issuers += steps.iter().filter(|step| matches!(step, Step::Issuer | Step::TakeOver)).count();
        let issuer = Issuer::from_stored(&rotated).unwrap();
        // Verifying is dear: it is done where something happened, and once in a while.
        if !steps.is_empty() || yesterdays_chain.is_some() || day % 100 == 0 {
            let certified = issuer.certify(&good_request(), &web(), &pod(), DAY, now).unwrap();
            assert_eq!(certified.not_after, now + DAY, "day {day}: cut short");
            assert_eq!(verify(&certified.chain, &yesterdays, now), Ok(()), "day {day}: signs untrusted");
            if let Some(chain) = &yesterdays_chain {
                let still = now - SECOND;
                assert_eq!(verify(chain, issuer.trust_bundle(), still), Ok(()), "day {day}: trusts no longer");
            }
            yesterdays_chain = (!steps.is_empty()).then_some(certified.chain);
        }
        yesterdays = issuer.trust_bundle().clone();
        // What is kept in between is only what the entries hold.
        let back = read(&rotated.entries());
        assert_eq!(back.faults, []);
        stored = back.stored.unwrap();
    }
    // The first one, two each time by hand (one more right after a takeover), and one because of its age.
    assert_eq!(roots, 1 + 3 * 2 + 1);
    assert!((20..=40).contains(&issuers), "{issuers} issuers");
}
