//! Log lines of failures, at most one in a while of each kind: a service that is down must not fill the disk, nor its
//! lines hide those of another.

use super::failure::{FAILURES, Failure};
use std::{cell::Cell, time::Duration};
use tokio::time::Instant;

/// Time between two lines of the same failure at `warn`.
const PAUSE: Duration = Duration::from_secs(5);

/// What one worker has logged of each failure.
#[derive(Debug)]
pub(crate) struct Reports([Seldom; FAILURES.len()]);

/// Lets one line of a kind through in a while, and counts those that it does not.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Cell<Lines>);

#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    last: Option<Instant>,
    left_out: u64,
}

impl Reports {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Seldom::default()))
    }

    /// Logs that a connection or request to `object` failed at `address`.
    pub(crate) fn report(&self, failure: Failure, object: &str, address: std::net::SocketAddr) {
        let code = failure.row().code;
        tracing::debug!(code, object, %address, "{failure}");
        if let Some(left_out) = self.due(failure, Instant::now()) {
            tracing::warn!(code, object, %address, left_out, "{failure}");
        }
    }

    /// How many lines were left out since the last, if one is due.
    fn due(&self, failure: Failure, now: Instant) -> Option<u64> {
        if !failure.row().warn {
            return None;
        }
        self.0[FAILURES.iter().position(|known| *known == failure)?].due(now)
    }
}

impl Seldom {
    /// How many lines were left out since the last, if one is due.
    pub(crate) fn due(&self, now: Instant) -> Option<u64> {
        let Lines { last, left_out } = self.0.get();
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        self.0.set(match due {
            true => Lines { last: Some(now), left_out: 0 },
            false => Lines { last, left_out: left_out + 1 },
        });
        due.then_some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_logged_at_once_and_then_with_the_number_of_those_left_out() {
        let (reports, now) = (Reports::new(), Instant::now());
        assert_eq!(reports.due(Failure::ConnectRefused, now), Some(0));
        assert_eq!(reports.due(Failure::ConnectRefused, now), None);
        assert_eq!(reports.due(Failure::NoEndpoints, now), Some(0), "another kind is not hidden");
        assert_eq!(reports.due(Failure::ConnectRefused, now + PAUSE), Some(1));
        assert_eq!(reports.due(Failure::Canceled, now), None, "a client that goes away is nobody's fault");
    }
}
