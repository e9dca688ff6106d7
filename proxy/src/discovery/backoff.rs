//! When to try the operator again. Pure: chance comes in as an argument.

use std::time::Duration;

/// The first pause after a failure.
const FIRST: Duration = Duration::from_millis(100);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(5);
/// The longest pause after a stream that ended as it should: enough to keep the proxies of a replica that leaves from
/// arriving at the others in one instant, and too short to be missed.
const RETURN: Duration = Duration::from_millis(200);
/// A stream that lived this long was a success, however it ended.
const PROVEN: Duration = Duration::from_secs(10);

/// How an attempt to hold a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// How long the stream was open; zero where it never was.
    pub lived: Duration,
    /// The operator ended it with the status OK, as it does now and then to spread its load.
    pub orderly: bool,
}

/// Exponential pauses with jitter. A stream that ends in order too soon counts as a failure, or an operator that ends
/// every stream at once would be called without a pause.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after `attempt`. `chance` is evenly spread over 0 to 1.
    pub(super) fn after(&mut self, attempt: Attempt, chance: f64) -> Duration {
        if attempt.lived >= PROVEN {
            self.failures = 0;
        }
        if attempt.orderly && self.failures == 0 {
            self.failures = u32::from(attempt.lived < PROVEN);
            return RETURN.mul_f64(chance);
        }
        let full = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + chance / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER_OPENED: Attempt = Attempt { lived: Duration::ZERO, orderly: false };
    const HOUR: Duration = Duration::from_secs(3600);

    fn pauses(attempts: &[Attempt], chance: f64) -> Vec<u128> {
        let mut backoff = Backoff::default();
        attempts.iter().map(|attempt| backoff.after(*attempt, chance).as_millis()).collect()
    }

    #[test]
    fn pauses_double_from_a_tenth_of_a_second_to_five_seconds() {
        assert_eq!(pauses(&[NEVER_OPENED; 8], 1.0), [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pauses(&[NEVER_OPENED; 8], 0.0), [50, 100, 200, 400, 800, 1600, 2500, 2500]);
    }

    #[test]
    fn a_stream_that_lived_makes_pauses_short_again() {
        let broke = Attempt { lived: HOUR, orderly: false };
        assert_eq!(pauses(&[NEVER_OPENED, NEVER_OPENED, NEVER_OPENED, broke], 1.0), [100, 200, 400, 100]);
    }

    #[test]
    fn after_an_orderly_end_the_proxy_returns_almost_at_once() {
        let ended = Attempt { lived: HOUR, orderly: true };
        assert_eq!(pauses(&[ended, ended], 1.0), [200, 200]);
        assert_eq!(pauses(&[ended], 0.0), [0]);
    }

    #[test]
    fn an_operator_that_ends_every_stream_at_once_is_not_called_in_a_tight_loop() {
        let brief = Attempt { lived: Duration::from_millis(1), orderly: true };
        assert_eq!(pauses(&[brief; 4], 1.0), [200, 200, 400, 800]);
    }
}
