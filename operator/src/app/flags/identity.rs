//! The flags of identity: whom the mesh trusts, for how long, and where keys of the user's own come from. Must not know
//! what is issued.

use super::{Flags, fault};
use crate::{
    inject::Fault,
    issuer::{LifetimeError, Lifetimes, Periods},
};
use clap::Args;
use conduit_model::TrustDomain;
use time::Duration;

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

    /// How long everything is valid.
    ///
    /// # Errors
    ///
    /// The flag with a lifetime that would cut another one short, and what was expected.
    pub fn lifetimes(&self) -> Result<Lifetimes, Fault> {
        let periods = Periods {
            root: self.root_lifetime,
            issuer: self.issuer_lifetime,
            certificate: self.certificate_lifetime,
            overlap: self.rotation_overlap,
        };
        Lifetimes::try_from(periods).map_err(|LifetimeError { name, expected }| {
            let value = match name {
                "root-lifetime" => periods.root,
                "issuer-lifetime" => periods.issuer,
                "certificate-lifetime" => periods.certificate,
                _ => periods.overlap,
            };
            fault(&format!("--{name}"), &expected, &format!("{}s", value.whole_seconds()))
        })
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
    let number: u32 = number.parse().map_err(|_| expected())?;
    Ok(Duration::seconds(i64::from(number) * seconds))
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
        assert_eq!(identity.trust_domain.as_str(), "cluster.local");
        assert_eq!(identity.lifetimes().unwrap(), Lifetimes::default());
        assert_eq!((identity.issuer_secret(), identity.webhook_certificate_secret()), (None, None));
    }

    #[test]
    fn what_is_no_trust_domain_or_duration_is_refused_in_words() {
        for (argument, said) in [
            ("--trust-domain=Shop", "must be a trust domain"),
            ("--trust-domain=", "must be a trust domain"),
            ("--certificate-lifetime=24", "expected a duration in s, m or h, such as `24h`"),
            ("--certificate-lifetime=-1h", "expected a duration"),
            ("--issuer-lifetime=1y", "expected a duration"),
            ("--rotation-overlap=99999999999h", "expected a duration"),
        ] {
            let error = parse(&[argument]).unwrap_err().to_string();
            assert!(error.contains(said), "{argument}: {error}");
        }
    }

    #[test]
    fn a_lifetime_that_would_be_cut_short_is_refused_by_its_flag() {
        let error = parse(&["--certificate-lifetime=59s"]).unwrap().identity.lifetimes().unwrap_err();
        let said = "flag --certificate-lifetime: must be between 1m and 876000h, is \"59s\"";
        assert_eq!(error.to_string(), said);
        let error = parse(&["--root-lifetime=9000h"]).unwrap().identity.lifetimes().unwrap_err();
        assert!(error.to_string().starts_with("flag --root-lifetime: must be between "), "{error}");
        let short =
            ["--certificate-lifetime=2m", "--rotation-overlap=20s", "--issuer-lifetime=24h", "--root-lifetime=72h"];
        assert_eq!(parse(&short).unwrap().identity.lifetimes().unwrap().overlap(), Duration::seconds(20));
    }
}
