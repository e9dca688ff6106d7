//! The containers and the volume that a pod gets. Must not know where in the pod they go.

use super::{Config, Resources, Settings, probes::Rewrite};
use conduit_model::settings::{
    self as proxy_settings, ADMIN_PORT, INBOUND_PORT, OUTBOUND_PORT, PROXY_UID, Setting, TOKEN_AUDIENCE,
};
use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapProjection, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath,
        ObjectFieldSelector, PodSpec, Probe, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
        SecurityContext, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::{api::resource, util::intstr::IntOrString},
};
use std::collections::{BTreeMap, BTreeSet};

/// Name of the container that sends the pod's traffic through the proxy.
pub const INIT_CONTAINER: &str = "conduit-init";
/// Name of the proxy's container.
pub const PROXY_CONTAINER: &str = "conduit-proxy";
/// Name of the ConfigMap with the roots of the mesh, in every namespace that has pods with a proxy.
pub const TRUST_BUNDLE: &str = "conduit-trust-bundle";
/// The key of [`TRUST_BUNDLE`].
pub const TRUST_BUNDLE_KEY: &str = "ca.crt";

const VOLUME: &str = "conduit-identity";
const MOUNT_PATH: &str = "/var/run/conduit";
const TOKEN_FILE: &str = "token";
/// Seconds that a token is valid; the kubelet renews it at four fifths. The proxy reads it for each certificate.
const TOKEN_LIFETIME: i64 = 3600;

/// The proxy's container, if the pod has one, with its place among the init containers.
pub(super) fn injected(spec: &PodSpec) -> Option<(usize, &Container)> {
    spec.init_containers.iter().flatten().enumerate().find(|(_, container)| container.name == PROXY_CONTAINER)
}

/// Every container of the pod but Conduit's own, with the list that holds it and its place there.
pub(super) fn theirs(spec: &PodSpec) -> impl Iterator<Item = (&'static str, usize, &Container)> {
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let lists = [("initContainers", init), ("containers", spec.containers.as_slice())];
    let all = lists.into_iter().flat_map(|(list, containers)| {
        containers.iter().enumerate().map(move |(index, container)| (list, index, container))
    });
    all.filter(|(_, _, container)| ![INIT_CONTAINER, PROXY_CONTAINER].contains(&container.name.as_str()))
}

/// The init container that writes the redirection. It runs once, as root with one capability.
pub(super) fn init(config: &Config, settings: &Settings) -> Container {
    let mut args = vec![
        format!("--outbound-port={OUTBOUND_PORT}"),
        format!("--inbound-port={INBOUND_PORT}"),
        format!("--admin-port={ADMIN_PORT}"),
        format!("--proxy-uid={PROXY_UID}"),
    ];
    let lists = [
        ("--skip-inbound-ports", &settings.skip_inbound_ports),
        ("--skip-outbound-ports", &settings.skip_outbound_ports),
        ("--skip-subnets", &settings.skip_subnets),
    ];
    args.extend(lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(flag, list)| format!("{flag}={list}")));
    Container {
        name: INIT_CONTAINER.to_owned(),
        image: Some(config.proxy_image.clone()),
        image_pull_policy: Some(config.image_pull_policy.clone()),
        command: Some(vec!["/conduit-init".to_owned()]),
        args: Some(args),
        resources: Some(resources(&config.init_resources)),
        security_context: Some(SecurityContext {
            capabilities: Some(Capabilities { add: Some(vec!["NET_ADMIN".to_owned()]), ..no_capabilities() }),
            // A pod may say that nothing in it runs as root; this one container has to.
            run_as_non_root: Some(false),
            run_as_user: Some(0),
            run_as_group: Some(0),
            ..confined()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// The proxy, as a native sidecar (KEP-753): it is ready before the application's own init containers start, and stops
/// after the application.
pub(super) fn proxy(config: &Config, settings: &Settings, probes: &[Rewrite]) -> Container {
    Container {
        name: PROXY_CONTAINER.to_owned(),
        image: Some(config.proxy_image.clone()),
        image_pull_policy: Some(config.image_pull_policy.clone()),
        restart_policy: Some("Always".to_owned()),
        env: Some(environment(config, settings, probes)),
        ports: Some(vec![port("conduit-inbound", INBOUND_PORT), port("conduit-admin", ADMIN_PORT)]),
        // What comes after it waits for this one: it is asked every second, for two minutes.
        startup_probe: Some(Probe { period_seconds: Some(1), failure_threshold: Some(120), ..admin_probe("/ready") }),
        readiness_probe: Some(Probe { period_seconds: Some(10), failure_threshold: Some(3), ..admin_probe("/ready") }),
        liveness_probe: Some(Probe { period_seconds: Some(10), failure_threshold: Some(3), ..admin_probe("/live") }),
        resources: Some(resources(&settings.resources)),
        security_context: Some(SecurityContext {
            capabilities: Some(no_capabilities()),
            run_as_non_root: Some(true),
            run_as_user: Some(PROXY_UID.into()),
            run_as_group: Some(PROXY_UID.into()),
            ..confined()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: MOUNT_PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// The token that proves the workload, and the roots by which the operator is trusted.
pub(super) fn volume() -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(TOKEN_AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_LIFETIME),
        path: TOKEN_FILE.to_owned(),
    };
    let bundle = ConfigMapProjection {
        name: TRUST_BUNDLE.to_owned(),
        items: Some(vec![KeyToPath {
            key: TRUST_BUNDLE_KEY.to_owned(),
            path: TRUST_BUNDLE_KEY.to_owned(),
            ..KeyToPath::default()
        }]),
        ..ConfigMapProjection::default()
    };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(bundle), ..VolumeProjection::default() },
    ];
    Volume {
        name: VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource { sources: Some(sources), ..ProjectedVolumeSource::default() }),
        ..Volume::default()
    }
}

/// The value of the setting that lists the ports that TCP probes may ask for.
pub(super) fn probe_ports<'a>(ports: impl IntoIterator<Item = &'a u16>) -> String {
    let ports: BTreeSet<_> = ports.into_iter().collect();
    ports.into_iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

fn environment(config: &Config, settings: &Settings, probes: &[Rewrite]) -> Vec<EnvVar> {
    let ports = probe_ports(probes.iter().map(|probe| &probe.port));
    let fields = [
        (proxy_settings::POD_NAME, "metadata.name"),
        (proxy_settings::POD_NAMESPACE, "metadata.namespace"),
        (proxy_settings::POD_IPS, "status.podIPs"),
    ];
    let always = [
        (proxy_settings::DISCOVERY_ADDRESS, config.discovery_address.clone()),
        (proxy_settings::IDENTITY_ADDRESS, config.identity_address.clone()),
        (proxy_settings::TRUST_DOMAIN, config.trust_domain.as_str().to_owned()),
        (proxy_settings::TRUST_FILE, format!("{MOUNT_PATH}/{TRUST_BUNDLE_KEY}")),
        (proxy_settings::TOKEN_FILE, format!("{MOUNT_PATH}/{TOKEN_FILE}")),
        (proxy_settings::TCP_PROBE_PORTS, ports),
    ];
    let where_set = [
        (proxy_settings::LOG, &settings.log_level),
        (proxy_settings::LOG_FORMAT, &settings.log_format),
        (proxy_settings::ACCESS_LOG, &settings.access_log),
        (proxy_settings::SHUTDOWN_GRACE_PERIOD, &settings.shutdown_grace_period),
        (proxy_settings::OUTBOUND_CONNECT_TIMEOUT, &settings.outbound_connect_timeout),
        (proxy_settings::INBOUND_CONNECT_TIMEOUT, &settings.inbound_connect_timeout),
    ];
    let fields = fields.into_iter().map(|(setting, path)| from_field(setting, path));
    let always = always.into_iter().map(|(setting, value)| variable(setting, value));
    let where_set = where_set.into_iter().filter_map(|(setting, value)| Some(variable(setting, value.clone()?)));
    fields.chain(always).chain(where_set).collect()
}

fn variable(setting: Setting, value: String) -> EnvVar {
    EnvVar { name: setting.name.to_owned(), value: Some(value), ..EnvVar::default() }
}

fn from_field(setting: Setting, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: path.to_owned() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: setting.name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

fn admin_probe(path: &str) -> Probe {
    let http_get = HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::Int(ADMIN_PORT.into()),
        scheme: Some("HTTP".to_owned()),
        ..HTTPGetAction::default()
    };
    Probe { http_get: Some(http_get), timeout_seconds: Some(2), ..Probe::default() }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn resources(resources: &Resources) -> ResourceRequirements {
    let amounts = |pairs: [(&str, &Option<super::values::Quantity>); 2]| {
        let set = pairs
            .into_iter()
            .filter_map(|(name, quantity)| Some((name.to_owned(), resource::Quantity(quantity.as_ref()?.to_string()))));
        Some(set.collect::<BTreeMap<_, _>>()).filter(|amounts| !amounts.is_empty())
    };
    ResourceRequirements {
        requests: amounts([("cpu", &resources.cpu_request), ("memory", &resources.memory_request)]),
        limits: amounts([("cpu", &resources.cpu_limit), ("memory", &resources.memory_limit)]),
        ..ResourceRequirements::default()
    }
}

fn no_capabilities() -> Capabilities {
    Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }
}

/// What both containers are denied.
fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
        ..SecurityContext::default()
    }
}
