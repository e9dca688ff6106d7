//! The flags of identity: whom the mesh trusts, for how long, and where keys of the user's own come from. Must not know
//! what is issued.

use super::{Flags, fault};
use crate::inject::Fault;
use clap::Args;
use conduit_model::TrustDomain;
use std::time::Duration;

/// Shorter than that, a proxy would spend its time renewing, and a clock that is a little behind would refuse it.
const SHORTEST_CERTIFICATE: Duration = Duration::from_secs(60);

/// How workloads prove who they are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Identity")]
pub struct Identity {
    /// Trust domain of the mesh, with which every identity begins.
    #[arg(long, value_name = "DOMAIN", env = "CONDUIT_OPERATOR_TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: TrustDomain,

    /// Secret of the operator's namespace with an issuer of your own (`tls.crt`, `tls.key` and `ca.crt`); empty for one that
    /// Conduit makes and rotates.
    #[arg(long, value_name = "NAME", env = "CONDUIT_OPERATOR_ISSUER_SECRET", default_value = "")]
    pub issuer_secret: String,

    /// How long a workload's certificate is valid.
    #[arg(
        long,
        value_name = "DURATION",
        env = "CONDUIT_OPERATOR_CERTIFICATE_LIFETIME",
        default_value = "24h",
        value_parser = duration
    )]
    pub certificate_lifetime: Duration,

    /// How long a root is trusted before it signs.
    #[arg(
        long,
        value_name = "DURATION",
        env = "CONDUIT_OPERATOR_ROTATION_OVERLAP",
        default_value = "24h",
        value_parser = duration
    )]
    pub rotation_overlap: Duration,

    /// How long a root is valid.
    #[arg(
        long,
        value_name = "DURATION",
        env = "CONDUIT_OPERATOR_ROOT_LIFETIME",
        default_value = "87600h",
        value_parser = duration
    )]
    pub root_lifetime: Duration,

    /// How long an issuer is valid.
    #[arg(
        long,
        value_name = "DURATION",
        env = "CONDUIT_OPERATOR_ISSUER_LIFETIME",
        default_value = "8760h",
        value_parser = duration
    )]
    pub issuer_lifetime: Duration,

    /// Secret of the operator's namespace with a serving certificate of your own for the webhooks (`tls.crt`, `tls.key` and
    /// `ca.crt`); empty for one that Conduit makes and rotates.
    #[arg(long, value_name = "NAME", env = "CONDUIT_OPERATOR_WEBHOOK_CERTIFICATE_SECRET", default_value = "")]
    pub webhook_certificate_secret: String,
}

impl Identity {
    /// The Secret with the user's own issuer.
    pub fn issuer_secret(&self) -> Option<&str> {
        Some(self.issuer_secret.as_str()).filter(|name| !name.is_empty())
    }

    /// The Secret with the user's own serving certificate for the webhooks.
    pub fn webhook_certificate_secret(&self) -> Option<&str> {
        Some(self.webhook_certificate_secret.as_str()).filter(|name| !name.is_empty())
    }

    /// Every lifetime that would leave somebody without a certificate, with what was expected.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let Self { certificate_lifetime, rotation_overlap, root_lifetime, issuer_lifetime, .. } = *self;
        // An issuer is renewed when a third of its life is left, and signs nothing beyond its end.
        let rows = [
            ("--certificate-lifetime", certificate_lifetime, SHORTEST_CERTIFICATE, "a minute"),
            ("--issuer-lifetime", issuer_lifetime, certificate_lifetime * 3, "three times --certificate-lifetime"),
            (
                "--root-lifetime",
                root_lifetime,
                issuer_lifetime * 2 + rotation_overlap,
                "two times --issuer-lifetime and --rotation-overlap",
            ),
        ];
        let too_short = rows.into_iter().filter(|(_, value, least, _)| value < least);
        too_short
            .map(|(flag, value, least, words)| {
                let expected = format!("at least {words}, which is {}s", least.as_secs());
                fault(flag, &expected, &format!("{}s", value.as_secs()))
            })
            .collect()
    }
}

impl Flags {
    /// `host:port` at which proxies find the operator's `port`; the host is a name on its certificate.
    pub(super) fn address(&self, port: u16) -> String {
        format!("{}.{}.svc.{}:{port}", super::SERVICE, self.namespace, self.cluster_domain)
    }
}

/// A whole number and its unit: `s`, `m` or `h`.
fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration in s, m or h, such as `24h`".to_owned();
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(expected()),
    };
    // Certificates hold years of four digits (RFC 5280 section 4.1.2.5); a number of 32 bits of any unit adds up safely.
    let number: u32 = number.parse().map_err(|_| expected())?;
    let longest = Duration::from_secs(100 * 365 * 24 * 3600);
    let duration = Duration::from_secs(u64::from(number) * seconds);
    (duration <= longest).then_some(duration).ok_or_else(|| "expected at most 100 years, 876000h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parse(arguments: &[&str]) -> Result<Flags, clap::Error> {
        Flags::try_parse_from(std::iter::once(&"conduit-operator").chain(arguments))
    }

    #[test]
    fn the_defaults_are_as_the_documentation_says_and_leave_nobody_without_a_certificate() {
        let identity = parse(&[]).unwrap().identity;
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert_eq!(identity.trust_domain.as_str(), "cluster.local");
        assert_eq!((identity.certificate_lifetime, identity.rotation_overlap), (hours(24), hours(24)));
        assert_eq!((identity.root_lifetime, identity.issuer_lifetime), (hours(87_600), hours(8_760)));
        assert_eq!((identity.issuer_secret(), identity.webhook_certificate_secret()), (None, None));
        assert_eq!(identity.faults(), []);
    }

    #[test]
    fn what_is_no_trust_domain_or_duration_is_refused_in_words() {
        for (argument, said) in [
            ("--trust-domain=Shop", "must be a trust domain"),
            ("--trust-domain=", "must be a trust domain"),
            ("--certificate-lifetime=24", "expected a duration in s, m or h, such as `24h`"),
            ("--certificate-lifetime=-1h", "expected a duration"),
            ("--issuer-lifetime=1y", "expected a duration"),
            ("--root-lifetime=1000000h", "expected at most 100 years"),
            ("--rotation-overlap=99999999999h", "expected a duration"),
        ] {
            let error = parse(&[argument]).unwrap_err().to_string();
            assert!(error.contains(said), "{argument}: {error}");
        }
    }

    #[test]
    fn lifetimes_that_would_leave_somebody_without_a_certificate_are_named_together() {
        let arguments = ["--certificate-lifetime=59s", "--issuer-lifetime=2m", "--root-lifetime=4m"];
        let said: Vec<_> = parse(&arguments).unwrap().identity.faults().iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "flag --certificate-lifetime: must be at least a minute, which is 60s, is \"59s\"",
                "flag --issuer-lifetime: must be at least three times --certificate-lifetime, which is 177s, is \"120s\"",
                "flag --root-lifetime: must be at least two times --issuer-lifetime and --rotation-overlap, which is \
                 86640s, is \"240s\"",
            ]
        );
        let short =
            ["--certificate-lifetime=60s", "--rotation-overlap=20s", "--issuer-lifetime=3m", "--root-lifetime=380s"];
        assert_eq!(parse(&short).unwrap().identity.faults(), []);
    }
}
