//! What the commands that count are asked: their arguments, parsed once, and where it is looked.

use std::fmt;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::resource::{Kind, Resource, Service, pod_or_resource};

#[derive(Args)]
pub(crate) struct StatSettings {
    /// deploy, sts, ds, rs, job, po or ns, alone or as in deploy/web; every workload by default.
    pub(super) resource: Option<Resource>,
    #[command(flatten)]
    pub(super) scope: Scope,
    #[command(flatten)]
    pub(super) window: Window,
    /// How to show it: wide adds bytes and the proxies' memory.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(super) output: StatOutput,
}

#[derive(Args)]
pub(crate) struct RoutesSettings {
    /// deploy, sts, ds, rs, job, po or ns, alone or as in deploy/web.
    pub(super) resource: Resource,
    /// What the resource sends to this Service, as in svc/cart or svc/cart.shop, rather than what comes to it.
    #[arg(long, value_name = "SERVICE")]
    pub(super) to: Option<Service>,
    #[command(flatten)]
    pub(super) scope: Scope,
    #[command(flatten)]
    pub(super) window: Window,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(super) output: RoutesOutput,
}

#[derive(Args)]
pub(crate) struct EdgesSettings {
    /// deploy, sts, ds, rs, job, po or ns, alone or as in deploy/web, at either end; every workload by default.
    pub(super) resource: Option<Resource>,
    #[command(flatten)]
    pub(super) scope: Scope,
    /// Only what was opened or asked within this time, up to 1h, or is open at its end; by default all that the proxies
    /// still show, which forget what has been idle for ten minutes.
    #[arg(long, alias = "time-window", value_parser = window_or_none, default_value = "0s")]
    pub(super) window: Duration,
    /// How to show it: wide adds whole identities and counts.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(super) output: StatOutput,
}

#[derive(Args)]
pub(crate) struct IdentitySettings {
    /// The name of a pod, or deploy, sts, ds, rs, job, po or ns, alone or as in deploy/web; every workload by default.
    #[arg(value_parser = pod_or_resource)]
    pub(super) resource: Option<Resource>,
    #[command(flatten)]
    pub(super) scope: Scope,
    /// How to show it: pem is the certificates themselves.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(super) output: IdentityOutput,
}

#[derive(Args)]
pub(crate) struct Scope {
    /// The namespace; by default that of the context.
    #[arg(short, long, conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Every namespace.
    #[arg(short = 'A', long)]
    pub(super) all_namespaces: bool,
}

#[derive(Args)]
pub(super) struct Window {
    /// The time over which is measured, from 1s to 1h.
    #[arg(long, value_parser = window, default_value = "5s")]
    pub(super) window: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum StatOutput {
    Table,
    Wide,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RoutesOutput {
    Table,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum IdentityOutput {
    Table,
    Json,
    Pem,
}

/// Where it was looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Namespace(String),
    AllNamespaces,
}

impl Scope {
    /// `ns` alone is about all of them, and `ns/shop` about that one, whatever the context says.
    pub(crate) fn place(&self, resource: &Resource, default: &str) -> Place {
        match (resource.kind, &resource.name) {
            (Some(Kind::Namespace), Some(name)) => Place::Namespace(name.clone()),
            (Some(Kind::Namespace), None) if self.namespace.is_none() => Place::AllNamespaces,
            _ if self.all_namespaces => Place::AllNamespaces,
            _ => Place::Namespace(self.namespace.clone().unwrap_or_else(|| default.to_owned())),
        }
    }
}

fn window(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|signed| Duration::try_from(signed).ok());
    parsed
        .filter(|window| (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(window))
        .ok_or_else(|| format!("expected a duration from 1s to 1h, not {text:?}"))
}

fn window_or_none(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        text => window(text).map_err(|error| format!("{error}, or 0s for all")),
    }
}

impl Place {
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self {
            Self::Namespace(namespace) => Some(namespace),
            Self::AllNamespaces => None,
        }
    }

    pub(super) fn remedy(&self) -> String {
        let namespace = self.namespace().unwrap_or("<namespace>");
        format!(
            "To mesh it:\n  kubectl label namespace {namespace} conduit.io/inject=enabled\n  \
             kubectl rollout restart deployment -n {namespace}"
        )
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(namespace) => write!(f, "namespace {namespace}"),
            Self::AllNamespaces => f.write_str("any namespace"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_of(resource: &str, namespace: Option<&str>, all_namespaces: bool) -> Place {
        let scope = Scope { namespace: namespace.map(Into::into), all_namespaces };
        scope.place(&resource.parse().unwrap(), "default")
    }

    #[test]
    fn it_is_looked_where_the_user_says() {
        let namespace = |name: &str| Place::Namespace(name.into());
        assert_eq!(place_of("deploy", None, false), namespace("default"));
        assert_eq!(place_of("deploy", Some("shop"), false), namespace("shop"));
        assert_eq!(place_of("deploy", None, true), Place::AllNamespaces);
        assert_eq!(place_of("ns", None, false), Place::AllNamespaces);
        assert_eq!(place_of("ns/shop", None, false), namespace("shop"));
        assert_eq!(place_of("ns", Some("shop"), false), namespace("shop"));
    }

    #[test]
    fn windows_are_at_least_a_second_and_at_most_an_hour() {
        assert_eq!(window("5s"), Ok(Duration::from_secs(5)));
        assert!(window("500ms").is_err() && window("2h").is_err() && window("soon").is_err());
        assert_eq!(window_or_none("0s"), Ok(Duration::ZERO));
        assert!(window_or_none("500ms").is_err());
    }
}
