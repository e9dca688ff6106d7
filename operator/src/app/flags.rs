//! The command line of the operator, each flag also an environment variable: what may be set, and its meaning as values
//! that the rooms take. Must not start anything.

mod identity;

pub use identity::Identity;

use crate::inject::{self, Fault, Resources, Settings};
use clap::{Args, Parser, ValueEnum};
use ipnet::IpNet;
use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// Name of the operator's Service, which is on its certificate.
pub const SERVICE: &str = "conduit-operator";
/// Names on the certificate for clients on the same machine.
const LOCAL_NAMES: [&str; 1] = ["localhost"];

/// The control plane of Conduit.
#[derive(Clone, Debug, Parser)]
#[command(name = "conduit-operator", version)]
pub struct Flags {
    /// Namespace that the operator runs in.
    #[arg(long, value_name = "NAME", env = "CONDUIT_OPERATOR_NAMESPACE", default_value = "conduit")]
    pub namespace: String,

    /// Name of the operator's pod, by which replicas tell each other apart.
    #[arg(long, value_name = "NAME", env = "CONDUIT_OPERATOR_POD_NAME", default_value = "conduit-operator")]
    pub pod_name: String,

    /// DNS domain of the cluster.
    #[arg(long, value_name = "DOMAIN", env = "CONDUIT_OPERATOR_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,

    /// What is logged: a level, or filter directives such as `info,conduit_operator=debug`.
    #[arg(long, value_name = "FILTER", env = "CONDUIT_OPERATOR_LOG_LEVEL", default_value = "info")]
    pub log_level: String,

    /// How log lines are written.
    #[arg(long, value_name = "FORMAT", env = "CONDUIT_OPERATOR_LOG_FORMAT", default_value = "plain")]
    pub log_format: LogFormat,

    /// Address that every server listens on; all addresses of both families where it is not given.
    #[arg(long, value_name = "IP", env = "CONDUIT_OPERATOR_LISTEN_IP")]
    pub listen_ip: Option<IpAddr>,

    /// Port of the webhooks (TLS).
    #[arg(long, value_name = "PORT", env = "CONDUIT_OPERATOR_WEBHOOK_PORT", default_value_t = 8443)]
    pub webhook_port: u16,

    /// Port of the identity service, from which proxies get their certificates (TLS).
    #[arg(long, value_name = "PORT", env = "CONDUIT_OPERATOR_IDENTITY_PORT", default_value_t = 8080)]
    pub identity_port: u16,

    /// Port of the discovery stream (TLS with the proxies' certificates).
    #[arg(long, value_name = "PORT", env = "CONDUIT_OPERATOR_DISCOVERY_PORT", default_value_t = 8086)]
    pub discovery_port: u16,

    /// Port of probes and metrics.
    #[arg(long, value_name = "PORT", env = "CONDUIT_OPERATOR_ADMIN_PORT", default_value_t = 9990)]
    pub admin_port: u16,

    /// Networks from which kubelets probe pods, besides the addresses of each pod's own node.
    #[arg(long, value_name = "CIDRS", env = "CONDUIT_OPERATOR_PROBE_NETWORKS", value_delimiter = ',')]
    pub probe_networks: Vec<IpNet>,

    /// Serve discovery and identity from the Kubernetes YAML files of this folder, with no API server.
    #[arg(long, value_name = "DIR", env = "CONDUIT_OPERATOR_MANIFESTS", requires = "identity_dir")]
    pub manifests: Option<PathBuf>,

    /// With --manifests: where `tokens.yaml` is read from, and `ca.crt` is written to.
    #[arg(long, value_name = "DIR", env = "CONDUIT_OPERATOR_IDENTITY_DIR", requires = "manifests")]
    pub identity_dir: Option<PathBuf>,

    /// Start nothing: ask the operator with this admin address whether it is ready, and say what it says.
    #[arg(long, value_name = "HOST:PORT")]
    pub ask_ready: Option<String>,

    /// How workloads prove who they are.
    #[command(flatten)]
    pub identity: Identity,

    /// What pods get.
    #[command(flatten)]
    pub injection: Injection,
}

/// What pods get, where no annotation says otherwise.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Injection")]
pub struct Injection {
    /// Image of the proxy, which holds conduit-init too.
    #[arg(
        long,
        value_name = "IMAGE",
        env = "CONDUIT_OPERATOR_PROXY_IMAGE",
        default_value = concat!("ghcr.io/conduit-mesh/conduit-proxy:", env!("CARGO_PKG_VERSION"))
    )]
    pub proxy_image: String,

    /// When the proxy's image is pulled.
    #[arg(
        long,
        value_name = "POLICY",
        env = "CONDUIT_OPERATOR_PROXY_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent"
    )]
    pub proxy_image_pull_policy: PullPolicy,

    /// What the proxy logs.
    #[arg(long, value_name = "FILTER", env = "CONDUIT_OPERATOR_PROXY_LOG_LEVEL", default_value = "info")]
    pub proxy_log_level: String,

    /// How the proxy writes log lines.
    #[arg(long, value_name = "FORMAT", env = "CONDUIT_OPERATOR_PROXY_LOG_FORMAT", default_value = "plain")]
    pub proxy_log_format: String,

    /// Whether the proxy writes a line for each request and connection, and how: `off`, `json` or `apache`.
    #[arg(long, value_name = "FORMAT", env = "CONDUIT_OPERATOR_PROXY_ACCESS_LOG", default_value = "off")]
    pub proxy_access_log: String,

    /// CPU that the proxy asks for; empty for none.
    #[arg(long, value_name = "QUANTITY", env = "CONDUIT_OPERATOR_PROXY_CPU_REQUEST", default_value = "20m")]
    pub proxy_cpu_request: String,

    /// CPU that the proxy may use; empty for no limit.
    #[arg(long, value_name = "QUANTITY", env = "CONDUIT_OPERATOR_PROXY_CPU_LIMIT", default_value = "")]
    pub proxy_cpu_limit: String,

    /// Memory that the proxy asks for; empty for none.
    #[arg(long, value_name = "QUANTITY", env = "CONDUIT_OPERATOR_PROXY_MEMORY_REQUEST", default_value = "20Mi")]
    pub proxy_memory_request: String,

    /// Memory that the proxy may use; empty for no limit.
    #[arg(long, value_name = "QUANTITY", env = "CONDUIT_OPERATOR_PROXY_MEMORY_LIMIT", default_value = "250Mi")]
    pub proxy_memory_limit: String,

    /// CPU that conduit-init asks for; empty for none.
    #[arg(long, value_name = "QUANTITY", env = "CONDUIT_OPERATOR_INIT_CPU_REQUEST", default_value = "10m")]
    pub init_cpu_request: String,

    /// CPU that conduit-init may use; empty for no limit.
    #[arg(long, value_name = "QUANTITY", env = "CONDUIT_OPERATOR_INIT_CPU_LIMIT", default_value = "100m")]
    pub init_cpu_limit: String,

    /// Memory that conduit-init asks for; empty for none.
    #[arg(long, value_name = "QUANTITY", env = "CONDUIT_OPERATOR_INIT_MEMORY_REQUEST", default_value = "10Mi")]
    pub init_memory_request: String,

    /// Memory that conduit-init may use; empty for no limit.
    #[arg(long, value_name = "QUANTITY", env = "CONDUIT_OPERATOR_INIT_MEMORY_LIMIT", default_value = "50Mi")]
    pub init_memory_limit: String,

    /// Ports and port ranges of every pod whose incoming connections bypass the proxy.
    #[arg(long, value_name = "PORTS", env = "CONDUIT_OPERATOR_SKIP_INBOUND_PORTS", default_value = "")]
    pub skip_inbound_ports: String,

    /// Ports and port ranges that every application reaches without the proxy.
    #[arg(long, value_name = "PORTS", env = "CONDUIT_OPERATOR_SKIP_OUTBOUND_PORTS", default_value = "")]
    pub skip_outbound_ports: String,

    /// Subnets that every application reaches without the proxy.
    #[arg(long, value_name = "CIDRS", env = "CONDUIT_OPERATOR_SKIP_SUBNETS", default_value = "")]
    pub skip_subnets: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Plain,
    /// One JSON object a line.
    Json,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// Where objects come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// The cluster that the operator runs in.
    Cluster,
    /// Folders.
    Folders {
        /// Kubernetes YAML.
        manifests: &'a Path,
        /// Tokens and trust bundle.
        identity: &'a Path,
    },
}

impl Flags {
    /// Where objects come from. The parser has seen to it that either both folders are given or none.
    pub fn source(&self) -> Source<'_> {
        match (&self.manifests, &self.identity_dir) {
            (Some(manifests), Some(identity)) => Source::Folders { manifests, identity },
            _ => Source::Cluster,
        }
    }

    /// The names that clients know the operator by, for its certificate.
    pub fn names(&self) -> BTreeSet<String> {
        let Self { namespace, cluster_domain, .. } = self;
        let service = [
            SERVICE.to_owned(),
            format!("{SERVICE}.{namespace}"),
            format!("{SERVICE}.{namespace}.svc"),
            format!("{SERVICE}.{namespace}.svc.{cluster_domain}"),
        ];
        let local = match self.source() {
            Source::Cluster => [].as_slice(),
            Source::Folders { .. } => LOCAL_NAMES.as_slice(),
        };
        service.into_iter().chain(local.iter().map(ToString::to_string)).collect()
    }

    /// What injection needs.
    ///
    /// # Errors
    ///
    /// Every flag that cannot be used, with what was expected.
    pub fn injection(&self) -> Result<inject::Config, Vec<Fault>> {
        let flags = &self.injection;
        let mut faults = Vec::new();
        let defaults = read(
            &mut faults,
            &[
                ("proxy-log-level", "--proxy-log-level", &flags.proxy_log_level),
                ("proxy-log-format", "--proxy-log-format", &flags.proxy_log_format),
                ("access-log", "--proxy-access-log", &flags.proxy_access_log),
                ("proxy-cpu-request", "--proxy-cpu-request", &flags.proxy_cpu_request),
                ("proxy-cpu-limit", "--proxy-cpu-limit", &flags.proxy_cpu_limit),
                ("proxy-memory-request", "--proxy-memory-request", &flags.proxy_memory_request),
                ("proxy-memory-limit", "--proxy-memory-limit", &flags.proxy_memory_limit),
                ("skip-inbound-ports", "--skip-inbound-ports", &flags.skip_inbound_ports),
                ("skip-outbound-ports", "--skip-outbound-ports", &flags.skip_outbound_ports),
                ("skip-subnets", "--skip-subnets", &flags.skip_subnets),
            ],
        );
        let init = read(
            &mut faults,
            &[
                ("proxy-cpu-request", "--init-cpu-request", &flags.init_cpu_request),
                ("proxy-cpu-limit", "--init-cpu-limit", &flags.init_cpu_limit),
                ("proxy-memory-request", "--init-memory-request", &flags.init_memory_request),
                ("proxy-memory-limit", "--init-memory-limit", &flags.init_memory_limit),
            ],
        );
        contradictions(&mut faults, "proxy", defaults.resources());
        contradictions(&mut faults, "init", init.resources());
        if flags.proxy_image.is_empty() {
            faults.push(fault("--proxy-image", "the name of an image", ""));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(inject::Config {
            proxy_image: flags.proxy_image.clone(),
            image_pull_policy: format!("{:?}", flags.proxy_image_pull_policy),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            discovery_address: self.address(self.discovery_port),
            identity_address: self.address(self.identity_port),
            trust_domain: self.identity.trust_domain.clone(),
            init_resources: init.resources().clone(),
            defaults,
        })
    }
}

/// Settings from (key, flag, value); an empty value leaves the key as it is.
fn read(faults: &mut Vec<Fault>, values: &[(&str, &str, &String)]) -> Settings {
    let mut settings = Settings::default();
    for (key, flag, value) in values.iter().filter(|(_, _, value)| !value.is_empty()) {
        if let Err(expected) = settings.set(key, value) {
            faults.push(fault(flag, expected, value));
        }
    }
    settings
}

fn contradictions(faults: &mut Vec<Fault>, container: &str, resources: &Resources) {
    faults.extend(resources.contradictions().map(|(what, request, limit)| {
        let expected = format!("at most --{container}-{what}-limit, which is {limit}");
        fault(&format!("--{container}-{what}-request"), &expected, &request.to_string())
    }));
}

fn fault(flag: &str, expected: &str, value: &str) -> Fault {
    Fault { place: "flag", key: flag.to_owned(), expected: expected.to_owned(), value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(arguments: &[&str]) -> Flags {
        Flags::try_parse_from(std::iter::once(&"conduit-operator").chain(arguments)).unwrap()
    }

    #[test]
    fn the_defaults_are_usable() {
        let config = flags(&[]).injection().unwrap();
        assert_eq!(config.image_pull_policy, "IfNotPresent");
        assert_eq!(config.discovery_address, "conduit-operator.conduit.svc.cluster.local:8086");
        assert_eq!(config.identity_address, "conduit-operator.conduit.svc.cluster.local:8080");
    }

    #[test]
    fn every_bad_injection_flag_is_named_with_what_was_expected() {
        let arguments =
            ["--proxy-cpu-limit=lots", "--skip-subnets=10.0.0.0", "--init-memory-request=1Gi", "--proxy-image="];
        let said: Vec<_> = flags(&arguments).injection().unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "flag --proxy-cpu-limit: must be a Kubernetes quantity, such as `100m` of CPU or `64Mi` of memory, is \"lots\"",
                "flag --skip-subnets: must be at most 128 subnets in CIDR notation, separated by commas, such as \
             `10.0.0.0/8,fd00::/8`, is \"10.0.0.0\"",
                "flag --init-memory-request: must be at most --init-memory-limit, which is 50Mi, is \"1Gi\"",
                "flag --proxy-image: must be the name of an image, is \"\"",
            ]
        );
    }

    #[test]
    fn an_empty_limit_is_none() {
        let with = flags(&["--proxy-cpu-limit=1"]).injection().unwrap();
        let without = flags(&["--proxy-cpu-limit="]).injection().unwrap();
        assert!(with.defaults.resources().cpu_limit.is_some() && without.defaults.resources().cpu_limit.is_none());
    }

    #[test]
    fn probe_networks_are_subnets_separated_by_commas_and_known_to_the_index() {
        assert!(crate::app::index(&flags(&[])).view().probe_networks().is_empty());
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse::<IpNet>().unwrap());
        let given = flags(&["--probe-networks=10.0.0.0/8,fd00::/8"]);
        assert_eq!(crate::app::index(&given).view().probe_networks(), networks);
        let error = Flags::try_parse_from(["conduit-operator", "--probe-networks=10.0.0.0"]).unwrap_err().to_string();
        assert!(error.contains("--probe-networks"), "{error}");
    }

    #[test]
    fn both_folders_are_given_or_none() {
        let only_one = Flags::try_parse_from(["conduit-operator", "--manifests", "a"]).unwrap_err().to_string();
        assert!(only_one.contains("--identity-dir"), "{only_one}");
        assert_eq!(flags(&[]).source(), Source::Cluster);
        let both = flags(&["--manifests", "a", "--identity-dir", "b"]);
        assert_eq!(both.source(), Source::Folders { manifests: Path::new("a"), identity: Path::new("b") });
    }

    #[test]
    fn the_certificate_is_for_the_service_and_outside_a_cluster_for_this_machine_too() {
        let names = flags(&["--namespace=mesh", "--cluster-domain=example.org"]).names();
        assert!(names.contains("conduit-operator.mesh.svc") && !names.contains("localhost"));
        assert!(names.contains("conduit-operator.mesh.svc.example.org"));
        assert!(flags(&["--manifests", "a", "--identity-dir", "b"]).names().contains("localhost"));
    }
}
