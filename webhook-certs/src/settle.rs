//! Rotation one step at a time, whatever rotates: decide, make the step, decide again. Must not know what the steps are.

use time::OffsetDateTime;

/// What there is to do with what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// Nothing before this time.
    Keep {
        /// When to decide again, at the latest.
        until: OffsetDateTime,
    },
    /// This step, then decide again.
    Issue(T),
}

/// Something with which there is nothing left to do for now.
#[derive(Debug)]
pub struct Settled<S, T> {
    /// What to keep and to use.
    pub stored: S,
    /// When to look again, at the latest.
    pub until: OffsetDateTime,
    /// What was done, for the log.
    pub steps: Vec<T>,
}

/// Makes every step that `decide` finds due, by `apply`. What is not there at all must never be kept.
///
/// # Errors
///
/// As `apply`.
pub fn settle_by<S, T: Copy, E>(
    mut stored: Option<S>,
    decide: impl Fn(Option<&S>) -> Decision<T>,
    mut apply: impl FnMut(T, Option<S>) -> Result<S, E>,
) -> Result<Settled<S, T>, E> {
    let mut steps = Vec::new();
    loop {
        stored = match (decide(stored.as_ref()), stored) {
            (Decision::Keep { until }, Some(stored)) => return Ok(Settled { stored, until, steps }),
            (Decision::Keep { .. }, None) => None,
            (Decision::Issue(step), stored) => {
                steps.push(step);
                Some(apply(step, stored)?)
            }
        };
    }
}
