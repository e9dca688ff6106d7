//! How much of a certificate's life is left, as far as somebody should hear of it. Must not know where it is told.

use crate::issuer::Validity;
use time::OffsetDateTime;

/// How much of its life a certificate has left at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    Half,
    Quarter,
    Tenth,
    Nothing,
}

impl Mark {
    /// The last mark that was passed by `now`; none while more than half is left.
    pub(super) fn passed(validity: Validity, now: OffsetDateTime) -> Option<Self> {
        let life = validity.not_after - validity.not_before;
        let left = validity.not_after - now;
        [(Self::Nothing, 0.0), (Self::Tenth, 0.1), (Self::Quarter, 0.25), (Self::Half, 0.5)]
            .into_iter()
            .find(|(_, share)| left <= life * *share)
            .map(|(mark, _)| mark)
    }

    /// Whether it is time to worry.
    pub(super) fn is_urgent(self) -> bool {
        self >= Self::Quarter
    }

    /// As a word of an object's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::Quarter => "quarter",
            Self::Tenth => "tenth",
            Self::Nothing => "expired",
        }
    }

    /// What is left, for people.
    pub(super) fn left(self) -> &'static str {
        match self {
            Self::Half => "less than half of its life is left",
            Self::Quarter => "less than a quarter of its life is left",
            Self::Tenth => "less than a tenth of its life is left",
            Self::Nothing => "it has expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    #[test]
    fn a_mark_is_passed_when_that_much_is_left_and_not_a_second_before() {
        let not_before = time::macros::datetime!(2026-01-01 00:00 UTC);
        let validity = Validity { not_before, not_after: not_before + Duration::days(100) };
        let passed = |left: Duration| Mark::passed(validity, validity.not_after - left);
        let second = Duration::SECOND;
        for (left, mark, before) in [
            (Duration::days(50), Mark::Half, None),
            (Duration::days(25), Mark::Quarter, Some(Mark::Half)),
            (Duration::days(10), Mark::Tenth, Some(Mark::Quarter)),
            (Duration::ZERO, Mark::Nothing, Some(Mark::Tenth)),
        ] {
            assert_eq!(passed(left), Some(mark));
            assert_eq!(passed(left + second), before);
        }
        assert_eq!(passed(-Duration::days(1)), Some(Mark::Nothing));
        assert!(Mark::Quarter.is_urgent() && !Mark::Half.is_urgent());
    }
}
