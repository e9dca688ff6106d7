//! Pods that would not work with a proxy, each with what to change.

use super::{DISABLED, Fault, INJECT_LABEL, Namespace, containers::theirs};
use conduit_model::settings::{ADMIN_PORT, INBOUND_PORT, OUTBOUND_PORT, PROXY_UID};
use k8s_openapi::api::core::v1::{Container, PodSpec};

/// Label by which a namespace enforces a Pod Security level (KEP-2579).
const POD_SECURITY_LABEL: &str = "pod-security.kubernetes.io/enforce";
/// The levels that forbid NET_ADMIN.
const STRICT_LEVELS: [&str; 2] = ["baseline", "restricted"];

/// Why a pod is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A setting cannot be used.
    #[error(transparent)]
    Annotation(Fault),
    /// What runs as the proxy's user is not intercepted, and would escape the mesh.
    #[error(
        "container {container:?} runs as user {PROXY_UID}, which is the proxy's own, so its traffic would bypass the \
         proxy: set another {field}"
    )]
    ProxyUser {
        /// Name of the container.
        container: String,
        /// The field that says so.
        field: &'static str,
    },
    /// The proxy's port is taken.
    #[error("container {container:?} declares port {port}, on which the proxy listens: let it listen on another")]
    ProxyPort {
        /// Name of the container.
        container: String,
        /// The port.
        port: u16,
    },
    /// The namespace's Pod Security level would refuse `conduit-init`.
    #[error(
        "namespace {namespace:?} is labelled {POD_SECURITY_LABEL}={level}, which forbids the capability NET_ADMIN that \
         conduit-init needs: label it {POD_SECURITY_LABEL}=privileged, or opt out with {INJECT_LABEL}={DISABLED} on \
         the pod"
    )]
    PodSecurity {
        /// Name of the namespace.
        namespace: String,
        /// The level.
        level: String,
    },
}

/// Every reason why this pod would not work with a proxy.
pub(super) fn refusals(namespace: Namespace<'_>, spec: &PodSpec) -> Vec<Refusal> {
    let users = theirs(spec).filter_map(|(_, _, container)| proxy_user(spec, container));
    let ports = theirs(spec).flat_map(|(_, _, container)| proxy_ports(container));
    pod_security(namespace).into_iter().chain(users).chain(ports).collect()
}

fn pod_security(namespace: Namespace<'_>) -> Option<Refusal> {
    let level = namespace.labels.get(POD_SECURITY_LABEL)?;
    STRICT_LEVELS
        .contains(&level.as_str())
        .then(|| Refusal::PodSecurity { namespace: namespace.name.to_owned(), level: level.clone() })
}

fn proxy_user(spec: &PodSpec, container: &Container) -> Option<Refusal> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
    let inherited = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let (user, field) = match own {
        Some(user) => (Some(user), "securityContext.runAsUser of the container"),
        None => (inherited, "securityContext.runAsUser of the pod"),
    };
    (user == Some(PROXY_UID.into())).then(|| Refusal::ProxyUser { container: container.name.clone(), field })
}

fn proxy_ports(container: &Container) -> impl Iterator<Item = Refusal> {
    let tcp = container.ports.iter().flatten().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let taken = tcp.filter_map(|declared| {
        [OUTBOUND_PORT, INBOUND_PORT, ADMIN_PORT].into_iter().find(|port| i32::from(*port) == declared.container_port)
    });
    taken.map(|port| Refusal::ProxyPort { container: container.name.clone(), port })
}
