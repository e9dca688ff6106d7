//! How people name what they want to see: `deploy/web`, `deploy`, `ns/shop`, `svc/cart`. Parsed once, here.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

/// What owns pods. The order is the order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Namespace,
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    ReplicationController,
    Job,
    Pod,
}

/// What `conduit stat` and `conduit routes` are asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Every workload where it is absent.
    pub(crate) kind: Option<Kind>,
    /// Every one of the kind where it is absent.
    pub(crate) name: Option<String>,
}

/// A Service, as `--to` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
}

/// A name for which there is nothing.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Unknown {
    #[error("expected deploy, sts, ds, rs, job, po or ns, alone or as in deploy/web, not {0:?}")]
    Resource(String),
    #[error("expected a Service as in svc/cart, not {0:?}")]
    Service(String),
}

impl Kind {
    /// As Kubernetes' own tables abbreviate it; where there is no abbreviation, the whole word.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Self::Namespace => "ns",
            Self::Deployment => "deploy",
            Self::StatefulSet => "sts",
            Self::DaemonSet => "ds",
            Self::ReplicaSet => "rs",
            Self::ReplicationController => "rc",
            Self::Job => "job",
            Self::Pod => "po",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "ns" | "namespace" | "namespaces" => Self::Namespace,
            "deploy" | "deployment" | "deployments" => Self::Deployment,
            "sts" | "statefulset" | "statefulsets" => Self::StatefulSet,
            "ds" | "daemonset" | "daemonsets" => Self::DaemonSet,
            "rs" | "replicaset" | "replicasets" => Self::ReplicaSet,
            "rc" | "replicationcontroller" | "replicationcontrollers" => Self::ReplicationController,
            "job" | "jobs" => Self::Job,
            "po" | "pod" | "pods" => Self::Pod,
            _ => return None,
        })
    }
}

impl Resource {
    /// Whether `name` is one that is asked about.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.name.as_deref().is_none_or(|wanted| wanted == name)
    }
}

/// As [`Resource`] is read, but that a word that is no kind is the name of a pod.
///
/// # Errors
/// It is neither.
pub(crate) fn pod_or_resource(text: &str) -> Result<Resource, Unknown> {
    let pod = || Resource { kind: Some(Kind::Pod), name: Some(text.to_owned()) };
    text.parse().or_else(|error| if is_name(text) { Ok(pod()) } else { Err(error) })
}

impl FromStr for Resource {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let unknown = || Unknown::Resource(text.to_owned());
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind, Some(name).filter(|name| is_name(name)).ok_or_else(unknown)?),
            None => return Ok(Self { kind: Some(Kind::parse(text).ok_or_else(unknown)?), name: None }),
        };
        Ok(Self { kind: Some(Kind::parse(kind).ok_or_else(unknown)?), name: Some(name.to_owned()) })
    }
}

impl FromStr for Service {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        match text.split_once('/') {
            Some(("svc" | "service" | "services", name)) if is_name(name) => Ok(Self { name: name.to_owned() }),
            _ => Err(Unknown::Service(text.to_owned())),
        }
    }
}

/// The characters of Kubernetes' names; whether such an object exists, the cluster says.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'))
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.name) {
            (None, _) => f.write_str("workload"),
            (Some(kind), None) => f.write_str(kind.short()),
            (Some(kind), Some(name)) => write!(f, "{}/{name}", kind.short()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_a_kind_alone_or_with_a_name() {
        let resource = |kind, name: Option<&str>| Ok(Resource { kind: Some(kind), name: name.map(Into::into) });
        assert_eq!("deploy/web".parse(), resource(Kind::Deployment, Some("web")));
        assert_eq!("Deployments".parse(), resource(Kind::Deployment, None));
        assert_eq!("pod/web-7c9-x2".parse(), resource(Kind::Pod, Some("web-7c9-x2")));
        assert_eq!("ns".parse(), resource(Kind::Namespace, None));
    }

    #[test]
    fn what_is_no_resource_is_refused_with_what_was_expected() {
        for text in ["web", "deploy/", "deploy/Web", "svc/web", "deploy/a/b"] {
            let expected =
                format!("expected deploy, sts, ds, rs, job, po or ns, alone or as in deploy/web, not {text:?}");
            assert_eq!(text.parse::<Resource>().unwrap_err().to_string(), expected);
        }
        assert_eq!(pod_or_resource("web-7c9-x2"), "pod/web-7c9-x2".parse());
        assert_eq!(pod_or_resource("deploy"), "deploy".parse());
        assert!(pod_or_resource("svc/web").is_err());
        assert_eq!("cart".parse::<Service>(), Err(Unknown::Service("cart".into())));
        assert_eq!("svc/cart".parse(), Ok(Service { name: "cart".into() }));
    }
}
