//! The settings of a proxy: one table from which the proxy reads its environment, the injector writes it, and the
//! reference is generated. Ports and the user id that the whole product agrees on are here too.

/// The proxy's outbound listener, on loopback only.
pub const OUTBOUND_PORT: u16 = 4140;
/// The proxy's inbound listener.
pub const INBOUND_PORT: u16 = 4143;
/// The proxy's admin server.
pub const ADMIN_PORT: u16 = 4191;
/// The user that the proxy runs as; its own connections are not intercepted.
pub const PROXY_UID: u32 = 2102;
/// Audience of the service-account token by which a proxy proves its workload.
pub const TOKEN_AUDIENCE: &str = "identity.conduit.io";
/// Admin path that answers 200 if the application accepts a TCP connection on the port of its query, as in
/// `/probe/tcp?port=6379`. The webhook rewrites `tcpSocket` probes to it.
pub const TCP_PROBE_PATH: &str = "/probe/tcp";
/// Response header by which a proxy tells a meshed peer why it failed: `<code>; object=<kind/namespace/name>`.
pub const ERROR_HEADER: &str = "conduit-error";

/// One setting of the proxy, read from the environment once at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Name of the environment variable.
    pub name: &'static str,
    /// Value where the variable is unset; none where it is required or off.
    pub default: Option<&'static str>,
    /// What a value must look like.
    pub expects: &'static str,
    /// What it is for.
    pub about: &'static str,
}

macro_rules! settings {
    ($($(#[doc = $about:literal])+ $constant:ident = $name:literal, $default:expr, $expects:literal;)+) => {
        $($(#[doc = $about])+ pub const $constant: Setting = Setting {
            name: $name,
            default: $default,
            expects: $expects,
            about: concat!($($about),+),
        };)+
        /// Every setting, in the order of the reference.
        pub const SETTINGS: &[Setting] = &[$($constant),+];
    };
}

settings! {
    /// What is logged: a level, or directives as `tracing_subscriber::EnvFilter` reads them.
    LOG = "CONDUIT_PROXY_LOG", Some("info"), "a level or filter directives, such as `info` or `warn,conduit_proxy=debug`";
    /// How log lines are written.
    LOG_FORMAT = "CONDUIT_PROXY_LOG_FORMAT", Some("plain"), "`plain` or `json`";
    /// Whether a line for each request, and for each connection whose bytes are not read, is written to standard output, and how.
    ACCESS_LOG = "CONDUIT_PROXY_ACCESS_LOG", Some("off"), "`off`, `json` or `apache`";
    /// Port of the outbound listener, on loopback.
    OUTBOUND_LISTEN_PORT = "CONDUIT_PROXY_OUTBOUND_PORT", Some("4140"), "a port";
    /// Port of the inbound listener.
    INBOUND_LISTEN_PORT = "CONDUIT_PROXY_INBOUND_PORT", Some("4143"), "a port";
    /// Port of the admin server.
    ADMIN_LISTEN_PORT = "CONDUIT_PROXY_ADMIN_PORT", Some("4191"), "a port";
    /// The pod's own addresses, to which inbound connections are forwarded.
    POD_IPS = "CONDUIT_PROXY_POD_IPS", None, "IP addresses, separated by commas";
    /// Name of the pod.
    POD_NAME = "CONDUIT_PROXY_POD_NAME", Some(""), "a pod's name";
    /// Namespace of the pod.
    POD_NAMESPACE = "CONDUIT_PROXY_POD_NAMESPACE", Some(""), "a namespace's name";
    /// Where the operator serves discovery.
    DISCOVERY_ADDRESS = "CONDUIT_PROXY_DISCOVERY_ADDRESS", None, "`host:port`; the host must be a name on the operator's certificate";
    /// Where the operator issues certificates.
    IDENTITY_ADDRESS = "CONDUIT_PROXY_IDENTITY_ADDRESS", None, "`host:port`; the host must be a name on the operator's certificate";
    /// The trust domain of the mesh.
    TRUST_DOMAIN = "CONDUIT_PROXY_TRUST_DOMAIN", Some("cluster.local"), "a trust domain, such as `cluster.local`";
    /// File with the roots of the mesh, in PEM, by which the operator is trusted; read again at each connection to it.
    TRUST_FILE = "CONDUIT_PROXY_TRUST_FILE", None, "a path";
    /// File with the service-account token that proves the workload; read again for each certificate.
    TOKEN_FILE = "CONDUIT_PROXY_TOKEN_FILE", None, "a path";
    /// How long a first connection to a destination waits for the operator's answer before it passes through.
    DISCOVERY_TIMEOUT = "CONDUIT_PROXY_DISCOVERY_TIMEOUT", Some("1s"), "a duration, such as `1s`";
    /// How long a destination stays subscribed to after its last connection closed.
    DISCOVERY_IDLE = "CONDUIT_PROXY_DISCOVERY_IDLE", Some("5m"), "a duration, such as `5m`";
    /// How long the first bytes of a connection of no declared protocol are waited for before the server may speak first.
    DETECT_TIMEOUT = "CONDUIT_PROXY_DETECT_TIMEOUT", Some("200ms"), "a duration, such as `200ms`";
    /// How long a connection to an endpoint may take; a handshake of mutual TLS on it may take 10 s more.
    OUTBOUND_CONNECT_TIMEOUT = "CONDUIT_PROXY_OUTBOUND_CONNECT_TIMEOUT", Some("1s"), "a duration, such as `1s`";
    /// How long a connection to the application may take.
    INBOUND_CONNECT_TIMEOUT = "CONDUIT_PROXY_INBOUND_CONNECT_TIMEOUT", Some("300ms"), "a duration, such as `300ms`";
    /// How long an idle HTTP/1.1 connection to an endpoint or to the application is kept for the next request.
    POOL_IDLE_TIMEOUT = "CONDUIT_PROXY_POOL_IDLE_TIMEOUT", Some("3s"), "a duration, such as `3s`";
    /// How long open connections may take to finish after SIGTERM.
    SHUTDOWN_GRACE_PERIOD = "CONDUIT_PROXY_SHUTDOWN_GRACE_PERIOD", Some("120s"), "a duration, such as `120s`";
    /// How long a peer may leave unacknowledged what it was sent, and be silent, before its connection is given up.
    UNACKNOWLEDGED_TIMEOUT = "CONDUIT_PROXY_UNACKNOWLEDGED_TIMEOUT", Some("30s"), "a duration of at least `100ms`, such as `30s`";
    /// Connections that the application may have open at once; more are refused.
    OUTBOUND_MAX_CONNECTIONS = "CONDUIT_PROXY_OUTBOUND_MAX_CONNECTIONS", Some("10000"), "a number from 1 to 1000000";
    /// Connections that clients of the pod may have open at once; more are refused, but for the kubelet's probes.
    INBOUND_MAX_CONNECTIONS = "CONDUIT_PROXY_INBOUND_MAX_CONNECTIONS", Some("10000"), "a number from 1 to 1000000";
    /// How much of them, in percent, one address may take; 100 for all.
    INBOUND_ADDRESS_SHARE = "CONDUIT_PROXY_INBOUND_ADDRESS_SHARE", Some("50"), "a number from 1 to 100";
    /// The ports that TCP probes may ask for.
    TCP_PROBE_PORTS = "CONDUIT_PROXY_TCP_PROBE_PORTS", Some(""), "ports, separated by commas";
    /// Threads that carry traffic.
    WORKERS = "CONDUIT_PROXY_WORKERS", Some("1"), "a number from 1 to 64";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_name_of_its_own_with_the_promised_prefix() {
        let names: std::collections::BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), SETTINGS.len());
        assert!(names.iter().all(|name| name.starts_with("CONDUIT_PROXY_")));
    }
}
