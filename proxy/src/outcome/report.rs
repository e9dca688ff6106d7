//! Log lines of failures, at most one in a while of each kind: a service that is down must not fill the disk, nor its
//! lines hide those of another.

use super::failure::{FAILURES, Failure};
use std::{cell::Cell, time::Duration};
use tokio::time::Instant;

/// Time between two lines of the same failure at `warn`.
const PAUSE: Duration = Duration::from_secs(5);

/// What one worker has logged of each failure.
#[derive(Debug)]
pub(crate) struct Reports([Cell<Report>; FAILURES.len()]);

#[derive(Clone, Copy, Debug, Default)]
struct Report {
    last: Option<Instant>,
    left_out: u64,
}

impl Reports {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Cell::default()))
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
        let cell = &self.0[FAILURES.iter().position(|known| *known == failure)?];
        let Report { last, left_out } = cell.get();
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        cell.set(match due {
            true => Report { last: Some(now), left_out: 0 },
            false => Report { last, left_out: left_out + 1 },
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
