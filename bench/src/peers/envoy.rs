//! Envoy as both halves of a mesh: static, one worker, mutual TLS 1.3 between the halves, HTTP/1.1 as HTTP/1.1 and HTTP/2 as
//! HTTP/2, as Istio runs it but without its filters. Must not know how it is run.

use super::{Half, PORTS, Ports};
use serde_json::{Value, json};
use std::{net::Ipv4Addr, path::Path};

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// Where its numbers can be asked for, in the client's half if sessions are looked at.
pub(super) const ADMIN: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 9901);

/// The configuration of one half. `sessions` says how many sessions the client's keeps for each server, where that is not what
/// it does by itself.
pub(super) fn configuration(half: Half, server: Ipv4Addr, certificates: &Path, sessions: Option<u32>) -> Value {
    let tls = Tls { half, certificates, sessions };
    let (listen, ports, next): (_, Ports, Ports) = match half {
        Half::Client => (Ipv4Addr::LOCALHOST, PORTS.outbound, PORTS.inbound),
        Half::Server => (Ipv4Addr::UNSPECIFIED, PORTS.inbound, PORTS.origin),
    };
    // Which HTTP is spoken to the application is declared; between the halves it is the client's.
    let protocols = |explicit: Value| match half {
        Half::Client => json!({"use_downstream_protocol_config": both_protocols()}),
        Half::Server => json!({"explicit_http_config": explicit}),
    };
    let resources = json!({
        "listeners": [
            listener("h1", (listen, ports.http1), &http("h1"), &tls.listener(&["http/1.1"])),
            listener("h2", (listen, ports.http2), &http("h2"), &tls.listener(&["h2"])),
            listener("tcp", (listen, ports.tcp), &plain(), &tls.listener(&[])),
        ],
        "clusters": [
            cluster("h1", (server, next.http1), Some(protocols(json!({"http_protocol_options": {}}))),
                &tls.cluster(&["http/1.1"])),
            cluster("h2", (server, next.http2), Some(protocols(json!({"http2_protocol_options": windows()}))),
                &tls.cluster(&["h2"])),
            cluster("tcp", (server, next.tcp), None, &tls.cluster(&[])),
        ],
    });
    let mut configuration = json!({"static_resources": resources});
    if half == Half::Client && sessions.is_some() {
        configuration["admin"] = json!({"address": address(ADMIN)});
    }
    configuration
}

fn windows() -> Value {
    json!({"initial_stream_window_size": 1 << 20, "initial_connection_window_size": 1 << 24})
}

fn both_protocols() -> Value {
    json!({"http_protocol_options": {}, "http2_protocol_options": windows()})
}

fn address((ip, port): (Ipv4Addr, u16)) -> Value {
    json!({"socket_address": {"address": ip, "port_value": port}})
}

fn listener(name: &str, at: (Ipv4Addr, u16), filter: &Value, tls: &Option<Value>) -> Value {
    let mut chain = json!({"filters": [{"name": name, "typed_config": filter}]});
    if let Some(tls) = tls {
        chain["transport_socket"] = tls.clone();
    }
    json!({"name": name, "address": address(at), "filter_chains": [chain]})
}

fn http(name: &str) -> Value {
    let router = json!({"@type": format!("{TYPES}.filters.http.router.v3.Router")});
    json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "codec_type": "AUTO",
        "http2_protocol_options": windows(),
        "http_filters": [{"name": "router", "typed_config": router}],
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name}}],
        }]},
    })
}

fn plain() -> Value {
    json!({
        "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": "tcp", "cluster": "tcp",
    })
}

fn cluster(name: &str, to: (Ipv4Addr, u16), protocols: Option<Value>, tls: &Option<Value>) -> Value {
    const MOST: u32 = 100_000;
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [
            {"max_connections": MOST, "max_pending_requests": MOST, "max_requests": MOST},
        ]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(to)}}]}],
        },
    });
    if let Some(mut protocols) = protocols {
        protocols["@type"] = json!(format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"));
        cluster["typed_extension_protocol_options"] =
            json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocols});
    }
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls.clone();
    }
    cluster
}

/// Mutual TLS between the halves: the client's clusters and the server's listeners have it.
struct Tls<'a> {
    half: Half,
    certificates: &'a Path,
    sessions: Option<u32>,
}

impl Tls<'_> {
    fn listener(&self, alpn: &[&str]) -> Option<Value> {
        let socket = |context| self.socket("DownstreamTlsContext", context);
        let context = json!({"require_client_certificate": true, "common_tls_context": self.common(alpn)});
        (self.half == Half::Server).then(|| socket(context))
    }

    fn cluster(&self, alpn: &[&str]) -> Option<Value> {
        let mut common = self.common(alpn);
        common["validation_context"]["match_typed_subject_alt_names"] =
            json!([{"san_type": "DNS", "matcher": {"exact": "server.bench"}}]);
        let mut context = json!({"sni": "server.bench", "common_tls_context": common});
        if let Some(sessions) = self.sessions {
            context["max_session_keys"] = json!(sessions);
        }
        (self.half == Half::Client).then(|| self.socket("UpstreamTlsContext", context))
    }

    fn socket(&self, kind: &str, mut context: Value) -> Value {
        context["@type"] = json!(format!("{TYPES}.transport_sockets.tls.v3.{kind}"));
        json!({"name": "tls", "typed_config": context})
    }

    fn common(&self, alpn: &[&str]) -> Value {
        let name = match self.half {
            Half::Client => "client",
            Half::Server => "server",
        };
        let file = |name: String| json!({"filename": self.certificates.join(name)});
        json!({
            "alpn_protocols": alpn,
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{
                "certificate_chain": file(format!("{name}.crt")), "private_key": file(format!("{name}.key")),
            }],
            "validation_context": {"trusted_ca": file("ca.crt".to_owned())},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_halves_is_encrypted() {
        let encrypted = |half, what: &str| {
            let configuration = configuration(half, Ipv4Addr::LOCALHOST, Path::new("certs"), None);
            let all = configuration["static_resources"][what].as_array().unwrap().clone();
            let socket = |value: &Value| {
                !value["transport_socket"].is_null() || !value["filter_chains"][0]["transport_socket"].is_null()
            };
            all.iter().map(socket).collect::<Vec<_>>()
        };
        assert_eq!(encrypted(Half::Client, "listeners"), [false; 3]);
        assert_eq!(encrypted(Half::Client, "clusters"), [true; 3]);
        assert_eq!(encrypted(Half::Server, "listeners"), [true; 3]);
        assert_eq!(encrypted(Half::Server, "clusters"), [false; 3]);
    }
}
