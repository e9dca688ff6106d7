//! What a pod or its namespace may set by annotation: one table of keys, from which annotations, the operator's own
//! defaults and the reference are read. Must not know what the settings do.

use super::values::{self, Quantity};
use std::collections::BTreeMap;

/// What every settings annotation begins with.
pub const ANNOTATION_PREFIX: &str = "config.conduit.io/";

/// The settings of one pod's proxy. Texts are checked and in the form in which the proxy or `conduit-init` reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub(super) skip_inbound_ports: String,
    pub(super) skip_outbound_ports: String,
    pub(super) skip_subnets: String,
    pub(super) log_level: Option<String>,
    pub(super) log_format: Option<String>,
    pub(super) access_log: Option<String>,
    pub(super) shutdown_grace_period: Option<String>,
    pub(super) outbound_connect_timeout: Option<String>,
    pub(super) inbound_connect_timeout: Option<String>,
    pub(super) resources: Resources,
}

/// What a container asks for and may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Resources {
    pub cpu_request: Option<Quantity>,
    pub cpu_limit: Option<Quantity>,
    pub memory_request: Option<Quantity>,
    pub memory_limit: Option<Quantity>,
}

/// One key that may follow [`ANNOTATION_PREFIX`].
#[derive(Debug)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    set: fn(&mut Settings, &str) -> Result<(), &'static str>,
}

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} {key}: must be {expected}, is {value:?}")]
pub struct Fault {
    /// Where it stands: `annotation` of the pod, `annotation of the namespace`, or a flag of the operator.
    pub place: &'static str,
    /// Its whole name.
    pub key: String,
    /// What was expected.
    pub expected: String,
    /// What it is.
    pub value: String,
}

macro_rules! keys {
    ($($name:literal, $about:literal, $field:ident $(. $part:ident)? = $parse:expr;)+) => {
        /// Every key, in the order of the reference.
        pub const KEYS: &[Key] = &[$(Key {
            name: $name,
            about: $about,
            set: |settings, value| {
                settings.$field$(.$part)? = $parse(value)?;
                Ok(())
            },
        }),+, Key {
            name: "opaque-ports",
            about: "Ports of the pod whose bytes pass through unread.",
            // Checked here, where the user sees it; what is in force is read from the pod by the index.
            set: |_, value| values::ports(value).map(drop),
        }];
    };
}

keys! {
    "skip-inbound-ports", "Ports of the pod whose incoming connections bypass the proxy.",
        skip_inbound_ports = values::ports;
    "skip-outbound-ports", "Ports that the application reaches without the proxy.",
        skip_outbound_ports = values::ports;
    "skip-subnets", "Subnets that the application reaches without the proxy.",
        skip_subnets = values::subnets;
    "proxy-log-level", "What the proxy logs: a level or filter directives.",
        log_level = |value| values::log_level(value).map(Some);
    "proxy-log-format", "How the proxy writes log lines.",
        log_format = |value| values::log_format(value).map(Some);
    "access-log", "Whether the proxy writes a line for each request and connection, and how.",
        access_log = |value| values::access_log(value).map(Some);
    "proxy-cpu-request", "CPU that the proxy asks for.",
        resources.cpu_request = |value| Quantity::parse(value).map(Some);
    "proxy-cpu-limit", "CPU that the proxy may use.",
        resources.cpu_limit = |value| Quantity::parse(value).map(Some);
    "proxy-memory-request", "Memory that the proxy asks for.",
        resources.memory_request = |value| Quantity::parse(value).map(Some);
    "proxy-memory-limit", "Memory that the proxy may use.",
        resources.memory_limit = |value| Quantity::parse(value).map(Some);
    "proxy-outbound-connect-timeout", "How long a connection to an endpoint may take.",
        outbound_connect_timeout = |value| values::duration(value).map(Some);
    "proxy-inbound-connect-timeout", "How long a connection to the application may take.",
        inbound_connect_timeout = |value| values::duration(value).map(Some);
    "shutdown-grace-period", "How long open connections may take to finish after the application has exited.",
        shutdown_grace_period = |value| values::duration(value).map(Some);
}

impl Settings {
    /// Sets one key, as an annotation would.
    ///
    /// # Errors
    ///
    /// What was expected instead of `value`, or that there is no such key.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match KEYS.iter().find(|known| known.name == key) {
            Some(known) => (known.set)(self, value),
            None => Err("one of the documented keys"),
        }
    }

    /// What the proxy asks for and may use.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }
}

impl Resources {
    /// The requests that are more than their limits: (what, request, limit). The API server would refuse the pod, and name
    /// a container that its author has never seen.
    pub fn contradictions(&self) -> impl Iterator<Item = (&'static str, &Quantity, &Quantity)> {
        let pairs = [("cpu", &self.cpu_request, &self.cpu_limit), ("memory", &self.memory_request, &self.memory_limit)];
        pairs.into_iter().filter_map(|(what, request, limit)| match (request, limit) {
            (Some(request), Some(limit)) if request.exceeds(limit) => Some((what, request, limit)),
            _ => None,
        })
    }
}

/// What reading annotations gave.
#[derive(Debug)]
pub(super) struct Effective {
    pub(super) settings: Settings,
    /// Empty, or the settings must not be used.
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<String>,
}

/// The pod's annotations over its namespace's over the defaults.
pub(super) fn effective(
    defaults: &Settings,
    namespace: &BTreeMap<String, String>,
    pod: Option<&BTreeMap<String, String>>,
) -> Effective {
    let mut effective = Effective { settings: defaults.clone(), faults: Vec::new(), warnings: Vec::new() };
    effective.read("annotation of the namespace", namespace);
    effective.read("annotation", pod.unwrap_or(&BTreeMap::new()));
    if effective.faults.is_empty() {
        let contradictions = effective.settings.resources.contradictions().map(|(what, request, limit)| Fault {
            place: "annotation",
            key: format!("{ANNOTATION_PREFIX}proxy-{what}-request"),
            expected: format!("at most proxy-{what}-limit, which is {limit}"),
            value: request.to_string(),
        });
        effective.faults.extend(contradictions);
    }
    effective
}

impl Effective {
    fn read(&mut self, place: &'static str, annotations: &BTreeMap<String, String>) {
        let ours =
            annotations.iter().filter_map(|(name, value)| Some((name, name.strip_prefix(ANNOTATION_PREFIX)?, value)));
        for (name, key, value) in ours {
            if !KEYS.iter().any(|known| known.name == key) {
                self.warnings.push(format!("{place} {name}: there is no such setting, it has no effect"));
            } else if let Err(expected) = self.settings.set(key, value) {
                let (expected, value) = (expected.to_owned(), value.clone());
                self.faults.push(Fault { place, key: name.clone(), expected, value });
            }
        }
    }
}
