//! The proxy's settings: its environment, read once at start into types that cannot hold nonsense.
//!
//! Names, defaults and what a value must look like come from the table in [`conduit_model::settings`], from which the
//! reference is generated too; this room only says what each value becomes. Every fault is reported at once.

use crate::{identity::HostPort, record::access::AccessFormat};
use conduit_model::{
    TrustDomain,
    settings::{self as table, Setting},
};
use std::{fmt, net::IpAddr, num::NonZeroUsize, path::PathBuf, str::FromStr, time::Duration};
use tracing_subscriber::EnvFilter;

/// What a proxy is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is logged, and how.
    pub log: LogSettings,
    /// How requests and connections are written about, if they are.
    pub access_log: Option<AccessFormat>,
    /// Port of the outbound listener, on loopback.
    pub outbound_port: u16,
    /// Port of the inbound listener.
    pub inbound_port: u16,
    /// Port of the admin server.
    pub admin_port: u16,
    /// The pod's own addresses, the primary one first; never empty.
    pub pod_ips: Vec<IpAddr>,
    /// Name of the pod, for log lines; empty outside a cluster.
    pub pod_name: String,
    /// Namespace of the pod, for log lines; empty outside a cluster.
    pub pod_namespace: String,
    /// Where the operator serves discovery.
    pub discovery_address: HostPort,
    /// Where the operator issues certificates.
    pub identity_address: HostPort,
    /// The trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// Roots of the mesh, in PEM, by which the operator is trusted.
    pub trust_file: PathBuf,
    /// The token that proves the workload.
    pub token_file: PathBuf,
    /// How long a first connection waits for the operator's answer.
    pub discovery_timeout: Duration,
    /// How long an unused destination stays subscribed to.
    pub discovery_idle: Duration,
    /// How long the first bytes of a connection of no declared protocol are waited for.
    pub detect_timeout: Duration,
    /// How long a connection to an endpoint may take.
    pub outbound_connect_timeout: Duration,
    /// How long a connection to the application may take.
    pub inbound_connect_timeout: Duration,
    /// How long an idle HTTP/1.1 connection is kept for the next request.
    pub pool_idle_timeout: Duration,
    /// How long open connections may take to finish after SIGTERM.
    pub shutdown_grace_period: Duration,
    /// How long a silent peer may leave unacknowledged what it was sent; at least 100 ms.
    pub unacknowledged_timeout: Duration,
    /// Connections that the application may have open at once, 1 to 1,000,000.
    pub outbound_max_connections: usize,
    /// Connections that clients may have open at once, 1 to 1,000,000.
    pub inbound_max_connections: usize,
    /// How much of them one address may take, in percent, 1 to 100.
    pub inbound_address_share: u8,
    /// The ports that TCP probes may ask for.
    pub tcp_probe_ports: Vec<u16>,
    /// Threads that carry traffic, 1 to 64.
    pub workers: NonZeroUsize,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Directives that [`EnvFilter`] reads without a fault.
    pub directives: String,
    /// How lines are written.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Plain,
    /// One JSON object a line.
    Json,
}

/// Settings that cannot be read: every one that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct SettingsError {
    /// One fault a variable, in the order of the table.
    pub faults: Vec<Fault>,
}

/// One setting that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Name of the environment variable.
    pub variable: &'static str,
    /// What was expected, from the table.
    pub expected: &'static str,
    /// What was found; none where a required variable is unset or empty.
    pub found: Option<String>,
    /// What is wrong with it, where that is more than the kind of value.
    pub detail: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, expected, found, detail } = self;
        match found {
            Some(found) => write!(f, "{variable} must be {expected}, was {found:?}")?,
            None => write!(f, "{variable} is required: {expected}")?,
        }
        detail.iter().try_for_each(|detail| write!(f, " ({detail})"))
    }
}

impl Settings {
    /// Reads the settings from `get`, which gives the value of an environment variable.
    ///
    /// # Errors
    /// Every variable that is missing or cannot be read.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut reader = Reader { get, faults: Vec::new() };
        let directives = reader.value(&table::LOG, log_directives);
        let format = reader.value(&table::LOG_FORMAT, str::parse);
        let access_log = reader.value(&table::ACCESS_LOG, access_format);
        let outbound_port = reader.value(&table::OUTBOUND_LISTEN_PORT, port);
        let inbound_port = reader.value(&table::INBOUND_LISTEN_PORT, port);
        let admin_port = reader.value(&table::ADMIN_LISTEN_PORT, port);
        let pod_ips = reader.value(&table::POD_IPS, addresses);
        let pod_name = reader.value(&table::POD_NAME, |text| Ok(text.to_owned()));
        let pod_namespace = reader.value(&table::POD_NAMESPACE, |text| Ok(text.to_owned()));
        let discovery_address = reader.value(&table::DISCOVERY_ADDRESS, str::parse);
        let identity_address = reader.value(&table::IDENTITY_ADDRESS, str::parse);
        let trust_domain = reader.value(&table::TRUST_DOMAIN, |text| text.parse().map_err(unsaid));
        let trust_file = reader.value(&table::TRUST_FILE, |text| Ok(PathBuf::from(text)));
        let token_file = reader.value(&table::TOKEN_FILE, |text| Ok(PathBuf::from(text)));
        let discovery_timeout = reader.value(&table::DISCOVERY_TIMEOUT, duration);
        let discovery_idle = reader.value(&table::DISCOVERY_IDLE, duration);
        let detect_timeout = reader.value(&table::DETECT_TIMEOUT, duration);
        let outbound_connect_timeout = reader.value(&table::OUTBOUND_CONNECT_TIMEOUT, duration);
        let inbound_connect_timeout = reader.value(&table::INBOUND_CONNECT_TIMEOUT, duration);
        let pool_idle_timeout = reader.value(&table::POOL_IDLE_TIMEOUT, duration);
        let shutdown_grace_period = reader.value(&table::SHUTDOWN_GRACE_PERIOD, duration);
        let unacknowledged_timeout = reader.value(&table::UNACKNOWLEDGED_TIMEOUT, patience);
        let outbound_max_connections = reader.value(&table::OUTBOUND_MAX_CONNECTIONS, connections);
        let inbound_max_connections = reader.value(&table::INBOUND_MAX_CONNECTIONS, connections);
        let inbound_address_share = reader.value(&table::INBOUND_ADDRESS_SHARE, percentage);
        let tcp_probe_ports = reader.value(&table::TCP_PROBE_PORTS, |text| list(text, port));
        let workers = reader.value(&table::WORKERS, workers);

        reader.distinct(&[
            (&table::OUTBOUND_LISTEN_PORT, outbound_port),
            (&table::INBOUND_LISTEN_PORT, inbound_port),
            (&table::ADMIN_LISTEN_PORT, admin_port),
        ]);
        let faults = reader.faults;
        let settings = || {
            Some(Self {
                log: LogSettings { directives: directives?, format: format? },
                access_log: access_log?,
                outbound_port: outbound_port?,
                inbound_port: inbound_port?,
                admin_port: admin_port?,
                pod_ips: pod_ips?,
                pod_name: pod_name?,
                pod_namespace: pod_namespace?,
                discovery_address: discovery_address?,
                identity_address: identity_address?,
                trust_domain: trust_domain?,
                trust_file: trust_file?,
                token_file: token_file?,
                discovery_timeout: discovery_timeout?,
                discovery_idle: discovery_idle?,
                detect_timeout: detect_timeout?,
                outbound_connect_timeout: outbound_connect_timeout?,
                inbound_connect_timeout: inbound_connect_timeout?,
                pool_idle_timeout: pool_idle_timeout?,
                shutdown_grace_period: shutdown_grace_period?,
                unacknowledged_timeout: unacknowledged_timeout?,
                outbound_max_connections: outbound_max_connections?,
                inbound_max_connections: inbound_max_connections?,
                inbound_address_share: inbound_address_share?,
                tcp_probe_ports: tcp_probe_ports?,
                workers: workers?,
            })
        };
        settings().filter(|_| faults.is_empty()).ok_or(SettingsError { faults })
    }
}

/// Reads values one after the other and keeps every fault.
struct Reader<Get> {
    get: Get,
    faults: Vec<Fault>,
}

impl<Get: Fn(&str) -> Option<String>> Reader<Get> {
    /// The value of `setting`, or of its default where the variable is unset. A variable that is empty has no value,
    /// unless that is what its default says.
    fn value<T>(&mut self, setting: &Setting, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let found = (self.get)(setting.name);
        let fault = |found, detail: Option<String>| Fault {
            variable: setting.name,
            expected: setting.expects,
            found,
            detail: detail.filter(|detail| !detail.is_empty()),
        };
        let text = match (&found, setting.default) {
            (Some(text), Some("")) => text.as_str(),
            (Some(text), _) if !text.is_empty() => text.as_str(),
            (_, Some(default)) => default,
            (_, None) => {
                self.faults.push(fault(None, None));
                return None;
            }
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.faults.push(fault(Some(text.to_owned()), Some(detail)));
                None
            }
        }
    }

    /// Each of these ports must be another one: a listener would take the other's connections.
    fn distinct(&mut self, ports: &[(&Setting, Option<u16>)]) {
        for (i, (setting, port)) in ports.iter().enumerate() {
            let taken = ports[..i].iter().find(|(_, other)| port.is_some() && other == port);
            if let (Some((other, _)), Some(port)) = (taken, port) {
                self.faults.push(Fault {
                    variable: setting.name,
                    expected: setting.expects,
                    found: Some(port.to_string()),
                    detail: Some(format!("{} has it already", other.name)),
                });
            }
        }
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(String::new()),
        }
    }
}

fn access_format(text: &str) -> Result<Option<AccessFormat>, String> {
    match text {
        "off" => Ok(None),
        "json" => Ok(Some(AccessFormat::Json)),
        "apache" => Ok(Some(AccessFormat::Apache)),
        _ => Err(String::new()),
    }
}

fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let addresses = list(text, |ip| ip.parse().map_err(unsaid))?;
    if addresses.is_empty() { Err("at least one".to_owned()) } else { Ok(addresses) }
}

fn log_directives(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|e| e.to_string())
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(String::new)
}

fn workers(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= 64).ok_or_else(String::new)
}

fn connections(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=1_000_000).contains(count)).ok_or_else(String::new)
}

fn percentage(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|percent| (1..=100).contains(percent)).ok_or_else(String::new)
}

/// A duration in which something can be waited for.
fn patience(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| if time >= Duration::from_millis(100) { Ok(time) } else { Err(String::new()) })
}

/// A whole number and its unit: `ms`, `s`, `m` or `h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(unsaid)?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err("units are ms, s, m and h".to_owned()),
    };
    milliseconds.map(Duration::from_millis).ok_or_else(|| "it is too long".to_owned())
}

/// Items separated by commas; spaces around them do not count, and an empty text holds none.
fn list<T>(text: &str, item: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    match text.trim() {
        "" => Ok(Vec::new()),
        text => text.split(',').map(|part| item(part.trim()).map_err(|_| format!("{part:?} is none"))).collect(),
    }
}

/// Drops an error whose text adds nothing to what the table says.
fn unsaid<E>(_: E) -> String {
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const REQUIRED: [(&str, &str); 5] = [
        ("CONDUIT_PROXY_POD_IPS", "10.0.0.7, fd00::7"),
        ("CONDUIT_PROXY_DISCOVERY_ADDRESS", "conduit-operator.conduit.svc:8086"),
        ("CONDUIT_PROXY_IDENTITY_ADDRESS", "conduit-operator.conduit.svc:8080"),
        ("CONDUIT_PROXY_TRUST_FILE", "/trust/ca.crt"),
        ("CONDUIT_PROXY_TOKEN_FILE", "/token"),
    ];

    fn read(changes: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let environment: BTreeMap<_, _> = REQUIRED.iter().chain(changes).copied().collect();
        Settings::read(|name| environment.get(name).map(|value| (*value).to_owned()))
    }

    fn refusal(changes: &[(&str, &str)]) -> String {
        read(changes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_unset_takes_the_default_of_the_table() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.pod_ips, ["10.0.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
        assert_eq!((settings.outbound_port, settings.inbound_port, settings.admin_port), (4140, 4143, 4191));
        assert_eq!(settings.trust_domain.as_str(), "cluster.local");
        assert_eq!(settings.discovery_idle, Duration::from_secs(300));
        assert_eq!(settings.detect_timeout, Duration::from_millis(200));
        assert_eq!(settings.log, LogSettings { directives: "info".into(), format: LogFormat::Plain });
        assert_eq!(settings.access_log, None);
        assert_eq!(settings.tcp_probe_ports, [] as [u16; 0]);
        assert_eq!(settings.workers.get(), 1);
        assert_eq!((settings.outbound_max_connections, settings.inbound_max_connections), (10_000, 10_000));
        assert_eq!((settings.inbound_address_share, settings.unacknowledged_timeout), (50, Duration::from_secs(30)));
    }

    #[test]
    fn a_bound_is_a_number_that_bounds() {
        for (variable, value) in [
            ("CONDUIT_PROXY_INBOUND_MAX_CONNECTIONS", "0"),
            ("CONDUIT_PROXY_OUTBOUND_MAX_CONNECTIONS", "1000001"),
            ("CONDUIT_PROXY_INBOUND_ADDRESS_SHARE", "101"),
            ("CONDUIT_PROXY_INBOUND_ADDRESS_SHARE", "0"),
            ("CONDUIT_PROXY_UNACKNOWLEDGED_TIMEOUT", "99ms"),
        ] {
            let refusal = refusal(&[(variable, value)]);
            assert!(refusal.starts_with(&format!("{variable} must be a ")) && refusal.contains(value), "{refusal}");
        }
    }

    #[test]
    fn an_empty_variable_is_an_unset_one() {
        assert_eq!(read(&[("CONDUIT_PROXY_LOG", "")]), read(&[]));
        assert!(refusal(&[("CONDUIT_PROXY_TOKEN_FILE", "")]).starts_with("CONDUIT_PROXY_TOKEN_FILE is required"));
    }

    #[test]
    fn every_fault_is_reported_at_once_with_its_variable_and_what_was_expected() {
        let error = Settings::read(|name| match name {
            "CONDUIT_PROXY_WORKERS" => Some("65".into()),
            "CONDUIT_PROXY_DETECT_TIMEOUT" => Some("fast".into()),
            "CONDUIT_PROXY_POD_IPS" => Some("10.0.0.7,here".into()),
            "CONDUIT_PROXY_DISCOVERY_ADDRESS" => Some("operator:0".into()),
            "CONDUIT_PROXY_TRUST_DOMAIN" => Some("Mesh".into()),
            _ => None,
        })
        .unwrap_err();
        let texts: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"CONDUIT_PROXY_POD_IPS must be IP addresses, separated by commas, was "10.0.0.7,here" ("here" is none)"#,
                r#"CONDUIT_PROXY_DISCOVERY_ADDRESS must be `host:port`; the host must be a name on the operator's certificate, was "operator:0" ("0" is no port from 1 to 65535)"#,
                "CONDUIT_PROXY_IDENTITY_ADDRESS is required: `host:port`; the host must be a name on the operator's certificate",
                r#"CONDUIT_PROXY_TRUST_DOMAIN must be a trust domain, such as `cluster.local`, was "Mesh""#,
                "CONDUIT_PROXY_TRUST_FILE is required: a path",
                "CONDUIT_PROXY_TOKEN_FILE is required: a path",
                r#"CONDUIT_PROXY_DETECT_TIMEOUT must be a duration, such as `200ms`, was "fast""#,
                r#"CONDUIT_PROXY_WORKERS must be a number from 1 to 64, was "65""#,
            ]
        );
    }

    #[test]
    fn two_listeners_on_one_port_are_refused() {
        assert_eq!(
            refusal(&[("CONDUIT_PROXY_INBOUND_PORT", "4191")]),
            "CONDUIT_PROXY_ADMIN_PORT must be a port, was \"4191\" (CONDUIT_PROXY_INBOUND_PORT has it already)"
        );
    }

    #[test]
    fn log_directives_that_cannot_be_read_are_refused() {
        assert!(
            refusal(&[("CONDUIT_PROXY_LOG", "conduit_proxy=loud")]).starts_with("CONDUIT_PROXY_LOG must be a level")
        );
    }

    #[test]
    fn an_access_log_is_off_or_has_a_format() {
        let of = |text| read(&[("CONDUIT_PROXY_ACCESS_LOG", text)]).map(|settings| settings.access_log);
        assert_eq!(of("off"), Ok(None));
        assert_eq!((of("json"), of("apache")), (Ok(Some(AccessFormat::Json)), Ok(Some(AccessFormat::Apache))));
        assert_eq!(
            refusal(&[("CONDUIT_PROXY_ACCESS_LOG", "true")]),
            "CONDUIT_PROXY_ACCESS_LOG must be `off`, `json` or `apache`, was \"true\""
        );
    }

    #[test]
    fn durations_have_a_whole_number_and_a_unit() {
        let of = |text| duration(text).ok();
        assert_eq!(of("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(of("0s"), Some(Duration::ZERO));
        assert_eq!(of("5m"), Some(Duration::from_secs(300)));
        assert_eq!(of("1h"), Some(Duration::from_secs(3600)));
        for wrong in ["", "5", "s", "1.5s", "-1s", "1d", "18446744073709551615h"] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn every_setting_of_the_table_is_read() {
        let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let _ = Settings::read(|name| {
            asked.borrow_mut().insert(name.to_owned());
            None
        });
        let table: std::collections::BTreeSet<_> = table::SETTINGS.iter().map(|s| s.name.to_owned()).collect();
        assert_eq!(asked.into_inner(), table);
    }
}
