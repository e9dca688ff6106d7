//! Which protocol a port declares, and in what order its declarations are believed.

use crate::index::{ports::AnnotatedPorts, service::AppProtocol};
use conduit_model::Protocol;

/// Ports of protocols in which the server speaks first or that are never HTTP: SMTP, SMTP submission, MySQL, Galera,
/// PostgreSQL, Redis, Elasticsearch's transport, memcached. Linkerd's defaults.
const WELL_KNOWN_OPAQUE: [u16; 8] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

/// What a port's name says where it is one of these, or begins with one and a dash.
const NAME_PREFIXES: [(&str, Protocol); 16] = [
    ("http", Protocol::Http1),
    ("http2", Protocol::Http2),
    ("h2c", Protocol::Http2),
    ("grpc", Protocol::Grpc),
    ("https", Protocol::Tls),
    ("tls", Protocol::Tls),
    ("tcp", Protocol::Opaque),
    ("redis", Protocol::Opaque),
    ("mysql", Protocol::Opaque),
    ("mongo", Protocol::Opaque),
    ("mongodb", Protocol::Opaque),
    ("postgres", Protocol::Opaque),
    ("postgresql", Protocol::Opaque),
    ("amqp", Protocol::Opaque),
    ("kafka", Protocol::Opaque),
    ("smtp", Protocol::Opaque),
];

/// All that is declared of one port, by whoever may.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Declaration<'a> {
    /// By a TrafficPolicy.
    pub policy: Option<Protocol>,
    /// An annotation lists it among the opaque ports.
    pub opaque: bool,
    /// By the Service's `appProtocol`.
    pub app_protocol: Option<&'a AppProtocol>,
    /// The port's name; empty where it has none.
    pub name: &'a str,
    /// The port's number.
    pub port: u16,
}

impl Declaration<'_> {
    /// The protocol to take: the first of policy, annotation, `appProtocol`, name and well-known number that says
    /// something. An `appProtocol` that is not understood means something else than the name may say: look.
    pub(super) fn protocol(self) -> Protocol {
        if let Some(protocol) = self.policy {
            return protocol;
        }
        if self.opaque {
            return Protocol::Opaque;
        }
        match self.app_protocol {
            Some(AppProtocol::Known(protocol)) => return *protocol,
            Some(AppProtocol::Unknown(_)) => return Protocol::Detect,
            None => {}
        }
        by_name(self.name)
            .or_else(|| WELL_KNOWN_OPAQUE.contains(&self.port).then_some(Protocol::Opaque))
            .unwrap_or_default()
    }
}

fn by_name(name: &str) -> Option<Protocol> {
    // gRPC-Web is HTTP of either version.
    let first = name.split('-').next().filter(|_| !name.starts_with("grpc-web"))?;
    NAME_PREFIXES.into_iter().find(|(prefix, _)| *prefix == first).map(|(_, protocol)| protocol)
}

/// Whether `port` is listed by the first of these annotations that is there; an error where that cannot be read.
pub(super) fn listed<'a>(
    annotations: impl IntoIterator<Item = (String, &'a AnnotatedPorts)>,
    port: u16,
) -> Result<bool, super::Unreadable> {
    match annotations.into_iter().find_map(|(object, ports)| ports.as_ref().map(|ports| (object, ports))) {
        None => Ok(false),
        Some((_, Ok(ports))) => Ok(ports.contains(port)),
        Some((object, Err(reason))) => Err(super::Unreadable { object, reason: reason.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_declaration_that_says_something_is_believed() {
        let (grpc, unknown) = (AppProtocol::Known(Protocol::Grpc), AppProtocol::Unknown("example.org/x".into()));
        let nothing = Declaration { port: 80, ..Declaration::default() };
        let everything = Declaration {
            policy: Some(Protocol::Http2),
            opaque: true,
            app_protocol: Some(&grpc),
            name: "http-web",
            port: 3306,
        };
        let no_policy = Declaration { policy: None, ..everything };
        let no_annotation = Declaration { opaque: false, ..no_policy };
        let no_app_protocol = Declaration { app_protocol: None, ..no_annotation };
        let no_name = Declaration { name: "web", ..no_app_protocol };
        for (declaration, expected) in [
            (everything, Protocol::Http2),
            (no_policy, Protocol::Opaque),
            (no_annotation, Protocol::Grpc),
            (no_app_protocol, Protocol::Http1),
            (no_name, Protocol::Opaque),
            (nothing, Protocol::Detect),
            (Declaration { policy: Some(Protocol::Detect), ..everything }, Protocol::Detect),
            (Declaration { app_protocol: Some(&unknown), name: "http", ..nothing }, Protocol::Detect),
        ] {
            assert_eq!(declaration.protocol(), expected, "{declaration:?}");
        }
    }

    #[test]
    fn a_ports_name_declares_by_its_first_part() {
        for (name, expected) in [
            ("http", Some(Protocol::Http1)),
            ("http-web", Some(Protocol::Http1)),
            ("http2", Some(Protocol::Http2)),
            ("https-admin", Some(Protocol::Tls)),
            ("grpc-api", Some(Protocol::Grpc)),
            ("grpc-web", None),
            ("httpx", None),
            ("web", None),
            ("", None),
            ("redis", Some(Protocol::Opaque)),
        ] {
            assert_eq!(by_name(name), expected, "{name}");
        }
    }
}
