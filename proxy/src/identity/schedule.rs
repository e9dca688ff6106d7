//! When to ask for a certificate. Pure: time and chance come in as arguments.

use std::time::{Duration, SystemTime};

/// At the latest at this share of its life a certificate is renewed, so that an operator that is away for the rest of it
/// is not missed.
const LATEST: f64 = 0.7;
/// And at the earliest at this one: certificates that came at one time are not renewed at one time.
const EARLIEST: f64 = 0.65;
/// Where another root signs now, all certificates are replaced within this share of their life.
const ROTATION: f64 = 0.1;
/// A certificate that proves nothing any more is replaced within this time.
const WORTHLESS: Duration = Duration::from_secs(10);
/// And not again before the next one has had this time: whoever refuses it may refuse that one too.
const APART: Duration = Duration::from_secs(10);
/// No certificate is renewed sooner: a replica that lags behind, or an issuer in its last seconds, would be asked again and
/// again.
const LEAST: Duration = Duration::from_secs(1);
/// The first pause after a failure.
const FIRST: Duration = Duration::from_millis(200);
/// No pause is longer, so that a mesh whose operator returns has recovered within half a minute.
const LONGEST: Duration = Duration::from_secs(10);

/// The life of a certificate as this proxy sees it, with the chance that was drawn for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// When it was taken. Its validity began before, for peers whose clock is behind.
    pub(super) taken: SystemTime,
    /// Its last second.
    pub(super) not_after: SystemTime,
    /// Evenly spread over 0 to 1.
    pub(super) chance: f64,
}

/// What a certificate is worth among those who look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// It leads to the root that signs now.
    Current,
    /// Since this time another root signs; its own is trusted still.
    Outdated(SystemTime),
    /// Since this time it leads to no root that is trusted, or the operator refuses it.
    Nothing(SystemTime),
}

impl Life {
    /// When to ask for the next one.
    pub(super) fn renewal(&self, worth: Worth) -> SystemTime {
        let life = self.not_after.duration_since(self.taken).unwrap_or_default();
        let regular = self.taken + life.mul_f64(EARLIEST + (LATEST - EARLIEST) * self.chance).max(LEAST);
        match worth {
            Worth::Current => regular,
            Worth::Outdated(since) => regular.min(since + life.mul_f64(ROTATION * self.chance).max(LEAST)),
            Worth::Nothing(since) => regular.min((since + WORTHLESS.mul_f64(self.chance)).max(self.taken + APART)),
        }
    }
}

/// How long to wait after so many failures in a row, the last one included.
pub(super) fn pause(failures: u32, chance: f64) -> Duration {
    let full = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    full.mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: f64) -> SystemTime {
        UNIX_EPOCH + HOUR.mul_f64(hours)
    }

    #[test]
    fn a_certificate_is_renewed_at_seven_tenths_of_its_life_at_the_latest_and_sooner_where_it_is_worth_less() {
        use Worth::{Current, Nothing, Outdated};
        let second = 1.0 / 3600.0;
        for (chance, worth, expected) in [
            (0.0, Current, 15.6),
            (0.5, Current, 16.2),
            (1.0, Current, 16.8),
            (0.5, Outdated(at(4.0)), 5.2),
            (1.0, Outdated(at(4.0)), 6.4),
            (0.0, Outdated(at(4.0)), 4.0 + second),
            (1.0, Outdated(at(16.0)), 16.8),
            (0.0, Nothing(at(4.0)), 4.0),
            (1.0, Nothing(at(4.0)), 4.0 + 10.0 * second),
            (0.0, Nothing(at(second)), 10.0 * second),
            (1.0, Nothing(at(17.0)), 16.8),
        ] {
            let life = Life { taken: at(0.0), not_after: at(24.0), chance };
            let renewal = life.renewal(worth);
            let off = renewal.duration_since(at(expected)).unwrap_or_else(|e| e.duration());
            assert!(off < Duration::from_millis(10), "{chance} {worth:?}: {renewal:?}");
        }
    }

    #[test]
    fn a_certificate_that_is_over_when_it_comes_is_renewed_soon_and_not_without_a_pause() {
        let life = Life { taken: at(2.0), not_after: at(1.0), chance: 1.0 };
        assert_eq!(life.renewal(Worth::Current), at(2.0) + LEAST);
    }

    #[test]
    fn pauses_double_from_a_fifth_of_a_second_to_ten_seconds() {
        let pauses = |chance| (1..=9).map(|failures| pause(failures, chance).as_millis()).collect::<Vec<_>>();
        assert_eq!(pauses(1.0), [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        assert_eq!(pauses(0.0), [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(pause(u32::MAX, 1.0), LONGEST);
    }
}
