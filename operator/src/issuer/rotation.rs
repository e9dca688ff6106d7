//! When a part of the mesh's identity is made anew, decided apart from making it.
//!
//! # How trust survives rotation
//!
//! A proxy verifies its peers up to a root of its bundle, and a new bundle reaches it late: over its discovery stream within
//! seconds, but one that cannot reach an operator goes on with what it has. So a root goes through three states, and one
//! move is made at a time:
//!
//! 1. *next*: made when the signing root has little more than an issuer's life left, and in the bundle from then on. It signs
//!    nothing.
//! 2. *signing*: after it has been in the bundle for the overlap, it signs a new issuer, in one step with taking over. It is
//!    the first of the bundle then, and a proxy whose chain ends elsewhere renews early.
//! 3. *previous*: in the bundle until every certificate below it has expired. Its key is dropped at once.
//!
//! An issuer needs no overlap: its certificate travels with those that it signed. It is renewed when a third of its life is
//! left, so that nothing that it signs is cut short, and an operator may be away for months.
//!
//! When the last certificate below a previous root was issued is not written down anywhere: the issuer that signs now is
//! younger than that, and its age is counted instead. Who rotates the issuer meanwhile keeps the old root for longer, which
//! is the safe side.
//!
//! An operator that was down for so long that the root expired starts over: nobody trusts anything below it any more. An
//! issuer that expired under a good root is issued again and nothing else happens. Validity that has not begun yet is no
//! reason to issue anything: the clock that is behind may be the one here, and a replica with a wrong clock must not throw
//! away what all others trust.

use super::{Lifetimes, Stored};
use conduit_webhook_certs::{
    Authority, AuthorityProfile, BACKDATING, CertificateError, Decision, Settled, TrustedAuthority, settle_by,
};
use std::{cell::Cell, fmt, str::FromStr};
use time::OffsetDateTime;

/// What somebody wants to have rotated now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotate {
    /// The root: the next one is announced, and signs after the overlap.
    Root,
    /// The issuer, at once.
    Issuer,
}

/// One step of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A new root and issuer: there was nothing usable.
    Everything,
    /// The root that will sign next, to be trusted from now on.
    NextRoot,
    /// The next root takes over and signs an issuer.
    TakeOver,
    /// An issuer by the root that signs.
    Issuer,
    /// Everything below the roots that signed before has expired, and they leave the bundle.
    ForgetPrevious,
}

/// What to do at `now`, where `rotate` was asked for.
pub fn decide(
    now: OffsetDateTime,
    stored: Option<&Stored>,
    rotate: Option<Rotate>,
    lifetimes: &Lifetimes,
) -> Decision<Step> {
    let Some(stored) = stored else { return Decision::Issue(Step::Everything) };
    let expired = now >= stored.root.not_after();
    let announce = stored.root.not_after() - lifetimes.root_renewal();
    // A next root that expired while nobody looked is none.
    let next_root = stored.next_root.as_ref().filter(|next| now < next.not_after());
    let take_over = next_root.map(|next| issued(next) + lifetimes.overlap());
    match take_over {
        Some(due) if now >= due || expired => return Decision::Issue(Step::TakeOver),
        None if expired => return Decision::Issue(Step::Everything),
        None if now >= announce || rotate == Some(Rotate::Root) => return Decision::Issue(Step::NextRoot),
        Some(_) | None => {}
    }
    let Some(issuer) = &stored.issuer else { return Decision::Issue(Step::Issuer) };
    let renewal = issuer.not_after() - (issuer.not_after() - issued(issuer)) / 3;
    // One that is as long-lived as its root lets it be cannot be made to last longer.
    let cut_short = issuer.not_after() >= stored.root.not_after();
    let renewal = if cut_short { issuer.not_after() } else { renewal };
    if now >= renewal || rotate == Some(Rotate::Issuer) {
        return Decision::Issue(Step::Issuer);
    }
    let forget = (!stored.previous_roots.is_empty()).then(|| issued(issuer) + lifetimes.retention());
    if forget.is_some_and(|due| now >= due) {
        return Decision::Issue(Step::ForgetPrevious);
    }
    let due = [Some(take_over.unwrap_or(announce)), Some(renewal), forget];
    Decision::Keep { until: due.into_iter().flatten().fold(stored.root.not_after(), OffsetDateTime::min) }
}

/// Makes every step that is due at `now`, and what `rotate` asks for.
///
/// # Errors
///
/// The cryptographic library has no randomness.
pub fn settle(
    stored: Option<Stored>,
    rotate: Option<Rotate>,
    lifetimes: &Lifetimes,
    now: OffsetDateTime,
) -> Result<Settled<Stored, Step>, CertificateError> {
    let rotate = Cell::new(rotate);
    settle_by(
        stored,
        |stored| decide(now, stored, rotate.get(), lifetimes),
        |step, stored| {
            rotate.set(rotate.get().filter(|wanted| !step.fulfils(*wanted)));
            apply(step, stored, lifetimes, now)
        },
    )
}

/// Carries out one step. What a step does not touch stays as it was.
fn apply(
    step: Step,
    stored: Option<Stored>,
    lifetimes: &Lifetimes,
    now: OffsetDateTime,
) -> Result<Stored, CertificateError> {
    let root = AuthorityProfile { name: "conduit root", lifetime: lifetimes.root(), path_length: 1 };
    let issuer = AuthorityProfile { name: "conduit issuer", lifetime: lifetimes.issuer(), path_length: 0 };
    let Some(stored) = stored.filter(|_| step != Step::Everything) else {
        let root = Authority::issue(root, now)?;
        let issuer = Some(root.issue_below(issuer, now)?);
        return Ok(Stored { root, next_root: None, previous_roots: Vec::new(), issuer });
    };
    match (step, stored.next_root) {
        (Step::TakeOver, Some(next)) => {
            let issuer = Some(next.issue_below(issuer, now)?);
            let mut previous_roots = stored.previous_roots;
            previous_roots.insert(0, TrustedAuthority::from_authority(&stored.root));
            Ok(Stored { root: next, next_root: None, previous_roots, issuer })
        }
        (Step::Everything | Step::NextRoot | Step::TakeOver, _) => {
            Ok(Stored { next_root: Some(Authority::issue(root, now)?), ..stored })
        }
        (Step::Issuer, next_root) => {
            let issuer = Some(stored.root.issue_below(issuer, now)?);
            Ok(Stored { next_root, issuer, ..stored })
        }
        (Step::ForgetPrevious, next_root) => Ok(Stored { next_root, previous_roots: Vec::new(), ..stored }),
    }
}

/// When an authority was made.
fn issued(authority: &Authority) -> OffsetDateTime {
    authority.not_before() + BACKDATING
}

impl Step {
    /// Whether this step is, among others, what somebody wanted.
    fn fulfils(self, wanted: Rotate) -> bool {
        match wanted {
            Rotate::Root => matches!(self, Self::Everything | Self::NextRoot),
            Rotate::Issuer => matches!(self, Self::Everything | Self::TakeOver | Self::Issuer),
        }
    }

    /// As it stands in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::NextRoot => "next-root",
            Self::TakeOver => "take-over",
            Self::Issuer => "issuer",
            Self::ForgetPrevious => "forget-previous",
        }
    }
}

impl FromStr for Rotate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "root" => Ok(Self::Root),
            "issuer" => Ok(Self::Issuer),
            other => Err(format!("must be `root` or `issuer`, was {other:?}")),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
