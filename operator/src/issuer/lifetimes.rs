//! How long the parts of the mesh's identity last, checked against each other. Must not know the time.

use time::Duration;

/// How long the parts of the mesh's identity last, as somebody wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// A root.
    pub root: Duration,
    /// An issuer, which a root signs.
    pub issuer: Duration,
    /// The certificate of a workload, and the operator's own.
    pub certificate: Duration,
    /// How long a root is in the bundle before it signs.
    pub overlap: Duration,
}

/// Periods that fit together, so that no certificate is cut short by what signs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes(Periods);

/// A period that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: must be {expected}")]
pub struct LifetimeError {
    /// What the period is called where it is set.
    pub name: &'static str,
    /// What was expected of it.
    pub expected: String,
}

/// Proxies renew at 70 % of a certificate's life: one that lasts less is renewed all the time.
const SHORTEST_CERTIFICATE: Duration = Duration::minutes(1);
/// No bundle reaches every proxy faster.
const SHORTEST_OVERLAP: Duration = Duration::seconds(10);
/// The calendar ends somewhere.
const LONGEST: Duration = Duration::days(100 * 365);

impl Periods {
    /// Ten years, one year, a day and a day.
    pub const DEFAULT: Self = Self {
        root: Duration::days(3650),
        issuer: Duration::days(365),
        certificate: Duration::days(1),
        overlap: Duration::days(1),
    };
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self(Periods::DEFAULT)
    }
}

impl TryFrom<Periods> for Lifetimes {
    type Error = LifetimeError;

    fn try_from(periods: Periods) -> Result<Self, LifetimeError> {
        let Periods { root, issuer, certificate, overlap } = periods;
        // An issuer is renewed when a third of its life is left, and what it signs then is to have its whole life; a new
        // root is not to be old enough already to announce the next.
        for (name, period, least, why) in [
            ("certificate-lifetime", certificate, SHORTEST_CERTIFICATE, ""),
            ("rotation-overlap", overlap, SHORTEST_OVERLAP, ""),
            ("issuer-lifetime", issuer, certificate.saturating_mul(3), ", three times certificate-lifetime"),
            (
                "root-lifetime",
                root,
                issuer.saturating_add(overlap).saturating_add(certificate).saturating_mul(2),
                ", twice the sum of issuer-lifetime, rotation-overlap and certificate-lifetime",
            ),
        ] {
            if period < least || period > LONGEST {
                let expected = format!("between {} and {}{why}", shown(least), shown(LONGEST));
                return Err(LifetimeError { name, expected });
            }
        }
        Ok(Self(periods))
    }
}

impl Lifetimes {
    /// Of a root.
    pub fn root(&self) -> Duration {
        self.0.root
    }

    /// Of an issuer.
    pub fn issuer(&self) -> Duration {
        self.0.issuer
    }

    /// Of a workload's certificate.
    pub fn certificate(&self) -> Duration {
        self.0.certificate
    }

    /// How long a root is in the bundle before it signs.
    pub fn overlap(&self) -> Duration {
        self.0.overlap
    }

    /// How much of its life a root has left when the next one is announced: until the next one signs, it can still sign an
    /// issuer of full length, and there is time in case something is late.
    pub(super) fn root_renewal(&self) -> Duration {
        self.0.issuer + self.0.overlap + self.0.certificate
    }

    /// How long a root that has signed stays in the bundle after the last certificate below it could be issued: for that
    /// one's life, and as long again for a replica that learned late of the new issuer.
    pub(super) fn retention(&self) -> Duration {
        self.0.certificate * 2
    }
}

fn shown(period: Duration) -> String {
    let seconds = period.whole_seconds();
    match (seconds % 3600, seconds % 60) {
        (0, _) => format!("{}h", seconds / 3600),
        (_, 0) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        assert_eq!(Lifetimes::try_from(Periods::DEFAULT), Ok(Lifetimes::default()));
    }

    #[test]
    fn a_period_that_would_be_cut_short_is_named_with_what_was_expected() {
        let default = Periods::DEFAULT;
        for (periods, said) in [
            (
                Periods { certificate: Duration::seconds(59), ..default },
                "certificate-lifetime: must be between 1m and 876000h",
            ),
            (Periods { overlap: Duration::ZERO, ..default }, "rotation-overlap: must be between 10s and 876000h"),
            (
                Periods { certificate: Duration::days(200), ..default },
                "issuer-lifetime: must be between 14400h and 876000h, three times certificate-lifetime",
            ),
            (
                Periods { root: default.issuer, ..default },
                "root-lifetime: must be between 17616h and 876000h, twice the sum of issuer-lifetime, rotation-overlap \
                 and certificate-lifetime",
            ),
            (
                Periods { root: Duration::MAX, ..default },
                "root-lifetime: must be between 17616h and 876000h, twice the sum of issuer-lifetime, rotation-overlap \
                 and certificate-lifetime",
            ),
        ] {
            assert_eq!(Lifetimes::try_from(periods).unwrap_err().to_string(), said);
        }
    }
}
