//! Which page of the admin server a request asks for, and whether it may. Pure.
//!
//! The server listens on the pod's own address, so that the kubelet and Prometheus reach it, and inbound traffic to it
//! is not intercepted: whoever can reach the pod can reach it. What shows the configuration or changes the proxy is
//! therefore answered to connections from loopback alone, which is to say from inside the pod (a port-forward is one).

use conduit_model::settings::TCP_PROBE_PATH;
use http::{Method, StatusCode};
use std::net::IpAddr;

/// A page that may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Ready,
    Live,
    Metrics,
    Probe { port: u16 },
    Config,
    Identity,
    LogLevel,
    SetLogLevel,
    Shutdown,
}

/// Why no page is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: String,
}

/// Who may ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    Anyone,
    Loopback,
}

/// The page that `method` and `path` ask for, if `peer` may have it. `probe_ports` are the ports that probes may ask for.
pub(super) fn find(
    method: &Method,
    path: &str,
    query: Option<&str>,
    peer: IpAddr,
    probe_ports: &[u16],
) -> Result<Page, Refusal> {
    let reading = || (*method == Method::GET || *method == Method::HEAD).then_some(());
    let (audience, page) = match path {
        "/ready" => (Audience::Anyone, reading().map(|()| Ok(Page::Ready))),
        "/live" => (Audience::Anyone, reading().map(|()| Ok(Page::Live))),
        "/metrics" => (Audience::Anyone, reading().map(|()| Ok(Page::Metrics))),
        TCP_PROBE_PATH => (Audience::Anyone, reading().map(|()| probe(query, probe_ports))),
        "/config" => (Audience::Loopback, reading().map(|()| Ok(Page::Config))),
        "/identity" => (Audience::Loopback, reading().map(|()| Ok(Page::Identity))),
        "/proxy-log-level" if *method == Method::PUT => (Audience::Loopback, Some(Ok(Page::SetLogLevel))),
        "/proxy-log-level" => (Audience::Loopback, reading().map(|()| Ok(Page::LogLevel))),
        "/shutdown" => (Audience::Loopback, (*method == Method::POST).then_some(Ok(Page::Shutdown))),
        _ => return Err(refuse(StatusCode::NOT_FOUND, format!("no page {path}"))),
    };
    if audience == Audience::Loopback && !peer.to_canonical().is_loopback() {
        return Err(refuse(StatusCode::FORBIDDEN, format!("{path} is answered on loopback alone")));
    }
    page.unwrap_or_else(|| Err(refuse(StatusCode::METHOD_NOT_ALLOWED, format!("{path} does not take {method}"))))
}

/// Only declared ports can be asked for: the server is no port scanner for others.
fn probe(query: Option<&str>, ports: &[u16]) -> Result<Page, Refusal> {
    let port = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("port=")));
    match port.map(str::parse::<u16>) {
        Some(Ok(port)) if ports.contains(&port) => Ok(Page::Probe { port }),
        Some(Ok(port)) => {
            Err(refuse(StatusCode::FORBIDDEN, format!("no tcpSocket probe of this pod asks for port {port}")))
        }
        Some(Err(_)) | None => Err(refuse(StatusCode::BAD_REQUEST, "expected ?port=<a port>".to_owned())),
    }
}

fn refuse(status: StatusCode, reason: String) -> Refusal {
    Refusal { status, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, target: &str, peer: &str) -> Result<Page, (u16, String)> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        find(&method, path, query, peer.parse().unwrap(), &[6379]).map_err(|r| (r.status.as_u16(), r.reason))
    }

    #[test]
    fn probes_and_metrics_are_for_everyone_and_the_rest_for_loopback() {
        let (pod, loopback, mapped) = ("10.0.0.9", "127.0.0.1", "::ffff:127.0.0.1");
        for (method, target, peer, expected) in [
            ("GET", "/ready", pod, Ok(Page::Ready)),
            ("HEAD", "/live", pod, Ok(Page::Live)),
            ("GET", "/metrics", pod, Ok(Page::Metrics)),
            ("GET", "/probe/tcp?port=6379", pod, Ok(Page::Probe { port: 6379 })),
            ("GET", "/config", loopback, Ok(Page::Config)),
            ("GET", "/config", mapped, Ok(Page::Config)),
            ("GET", "/identity", loopback, Ok(Page::Identity)),
            ("GET", "/identity", pod, Err((403, "/identity is answered on loopback alone".into()))),
            ("GET", "/proxy-log-level", "::1", Ok(Page::LogLevel)),
            ("PUT", "/proxy-log-level", loopback, Ok(Page::SetLogLevel)),
            ("POST", "/shutdown", loopback, Ok(Page::Shutdown)),
            ("GET", "/config", pod, Err((403, "/config is answered on loopback alone".into()))),
            ("PUT", "/proxy-log-level", pod, Err((403, "/proxy-log-level is answered on loopback alone".into()))),
            ("POST", "/shutdown", "fd00::9", Err((403, "/shutdown is answered on loopback alone".into()))),
            ("GET", "/shutdown", loopback, Err((405, "/shutdown does not take GET".into()))),
            ("POST", "/metrics", pod, Err((405, "/metrics does not take POST".into()))),
            ("GET", "/", loopback, Err((404, "no page /".into()))),
        ] {
            assert_eq!(ask(method, target, peer), expected, "{method} {target} from {peer}");
        }
    }

    #[test]
    fn a_probe_asks_for_a_port_that_the_pod_declares() {
        let probe = |target| ask("GET", target, "10.0.0.9");
        assert_eq!(probe("/probe/tcp?x=1&port=6379"), Ok(Page::Probe { port: 6379 }));
        assert_eq!(probe("/probe/tcp?port=22"), Err((403, "no tcpSocket probe of this pod asks for port 22".into())));
        for target in ["/probe/tcp", "/probe/tcp?port=", "/probe/tcp?port=http", "/probe/tcp?port=70000"] {
            assert_eq!(probe(target), Err((400, "expected ?port=<a port>".into())), "{target}");
        }
    }
}
