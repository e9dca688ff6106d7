//! The decision whether and how a pod gets a proxy.
//!
//! Pure: it knows the types of Kubernetes and of the proxy's settings, and neither a cluster nor a clock. The webhook and
//! the CLI call the same [`decide`], so that both give the same pod.
//!
//! That a pod opted in is not decided here: the API server's match proves it (by label of the namespace or of the pod),
//! and an index could be behind it.

mod containers;
mod patch;
mod probes;
mod refusal;
mod settings;
#[cfg(test)]
mod tests;
mod values;

pub use containers::{INIT_CONTAINER, PROXY_CONTAINER, TRUST_BUNDLE, TRUST_BUNDLE_KEY};
pub use refusal::Refusal;
pub use settings::{ANNOTATION_PREFIX, Fault, KEYS, Key, Resources, Settings};

use conduit_model::TrustDomain;
use json_patch::Patch;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use std::{collections::BTreeMap, fmt};

/// Label of a namespace or a pod that decides on injection.
pub const INJECT_LABEL: &str = "conduit.io/inject";
/// Value of [`INJECT_LABEL`] that opts in.
pub const ENABLED: &str = "enabled";
/// Value of [`INJECT_LABEL`] that opts a pod out of its namespace's choice.
pub const DISABLED: &str = "disabled";
/// Annotation of an injected pod: the version of Conduit that injected it.
pub const VERSION_ANNOTATION: &str = "conduit.io/proxy-version";

/// Containers of other meshes' proxies, which redirect the same traffic.
const OTHER_PROXIES: [&str; 3] = ["istio-proxy", "linkerd-proxy", "kuma-sidecar"];

/// What is the same for every pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Image of the proxy, which holds `conduit-init` too.
    pub proxy_image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Version that is written on the pod.
    pub version: String,
    /// `host:port` of the operator's discovery.
    pub discovery_address: String,
    /// `host:port` of the operator's identity service.
    pub identity_address: String,
    /// The trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// Resources of `conduit-init`.
    pub init_resources: Resources,
    /// What annotations override.
    pub defaults: Settings,
}

/// What is known of a pod's namespace.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its annotations; those without [`ANNOTATION_PREFIX`] are not looked at.
    pub annotations: &'a BTreeMap<String, String>,
}

/// What is to be done with a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is left as it is.
    Skip(Skip),
    /// It must not start: injected, it would not work, and without a proxy it would silently not be part of the mesh.
    Refuse(Vec<Refusal>),
    /// It is changed.
    Inject(Plan),
}

/// How a pod is changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// RFC 6902, for exactly the pod that was decided on.
    pub patch: Patch,
    /// What the user should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Why a pod is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It shares its node's network, whose traffic belongs to others too.
    HostNetwork,
    /// It has Conduit's proxy already and nothing changed since.
    AlreadyInjected,
    /// It has another mesh's proxy, in the container of this name.
    OtherMesh(&'static str),
    /// Its own label opts out.
    OptedOut,
    /// It runs on Windows, which has no nftables.
    Windows,
}

impl Skip {
    /// Whether the user may have expected something else and is told by an Event.
    pub fn surprises(self) -> bool {
        match self {
            Self::HostNetwork | Self::OtherMesh(_) | Self::Windows => true,
            Self::AlreadyInjected | Self::OptedOut => false,
        }
    }
}

/// The note of an Event.
impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostNetwork => f.write_str(
                "not injected: the pod uses its node's network (spec.hostNetwork), whose traffic belongs to others too",
            ),
            Self::AlreadyInjected => f.write_str("not injected: the pod has the proxy already"),
            Self::OtherMesh(container) => {
                write!(f, "not injected: the pod has the proxy of another mesh, in the container {container:?}")
            }
            Self::OptedOut => write!(f, "not injected: the pod is labelled {INJECT_LABEL}={DISABLED}"),
            Self::Windows => f.write_str("not injected: the pod runs on Windows (spec.os.name)"),
        }
    }
}

/// Decides what is to be done with a pod that opted in, or whose namespace did.
///
/// It decides the same on a pod that it has changed already, but for what others added to it since: their `tcpSocket`
/// probes are rewritten then. So the API server may ask again (`reinvocationPolicy`).
pub fn decide(namespace: Namespace<'_>, pod: &Pod, config: &Config) -> Decision {
    let absent = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&absent);
    if let Some(skip) = skip(pod) {
        return Decision::Skip(skip);
    }
    let probes = probes::rewrites(spec);
    let mut refusals = refusal::refusals(namespace, spec);
    if let Some(proxy) = containers::injected(spec) {
        return match patch::again(proxy, &probes) {
            _ if !refusals.is_empty() => Decision::Refuse(refusals),
            Some(patch) => Decision::Inject(Plan { patch, warnings: Vec::new() }),
            None => Decision::Skip(Skip::AlreadyInjected),
        };
    }
    let annotations = pod.metadata.annotations.as_ref();
    let settings = settings::effective(&config.defaults, namespace.annotations, annotations);
    refusals.extend(settings.faults.into_iter().map(Refusal::Annotation));
    if !refusals.is_empty() {
        return Decision::Refuse(refusals);
    }
    let init = containers::init(config, &settings.settings);
    let proxy = containers::proxy(config, &settings.settings, &probes);
    Decision::Inject(Plan {
        patch: patch::first(pod, spec, [init, proxy], &probes, config),
        warnings: settings.warnings,
    })
}

/// Why a pod that opted in would be left as it is, from the pod alone; none where it would be meshed, or is.
pub fn skip(pod: &Pod) -> Option<Skip> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(INJECT_LABEL));
    if label.is_some_and(|value| value == DISABLED) {
        return Some(Skip::OptedOut);
    }
    let spec = pod.spec.as_ref()?;
    if spec.host_network == Some(true) {
        return Some(Skip::HostNetwork);
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return Some(Skip::Windows);
    }
    let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.find_map(|container| OTHER_PROXIES.into_iter().find(|name| container.name == *name)).map(Skip::OtherMesh)
}
