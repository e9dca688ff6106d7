//! Clients that prove nothing, and what policy lets them do.

use crate::{identity::Alpn, support::*};
use conduit_model::{
    Inbound, InboundMtls, InboundMtlsMode, Network, ObjectRef, Probe, Protocol, admission::GRPC_HEALTH_CHECK,
};
use http::{Request, Response, Version};
use std::{cell::Cell, net::SocketAddr, rc::Rc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn strict() -> InboundMtls {
    let source = ObjectRef { kind: "TrafficPolicy".into(), namespace: "shop".into(), name: "closed".into() };
    InboundMtls { mode: InboundMtlsMode::Strict, source: Some(source) }
}

/// What a pod is told whose one port is strict, has these probes, and is probed from loopback if `probed`.
fn closed(application: SocketAddr, protocol: Protocol, probes: &[Probe], from: &str) -> Inbound {
    let mut port = inbound_port(application, protocol);
    (port.mtls, port.probes) = (strict(), probes.to_vec());
    let probe_networks = vec![Network::new(from.parse().unwrap(), 32).unwrap()];
    Inbound { ports: vec![port], probe_networks, ..Inbound::of(workload("web")) }
}

const NODE: &str = "127.0.0.1";
const ELSEWHERE: &str = "192.0.2.1";

/// An HTTP/1 application, and how many requests it has had.
async fn counting() -> (SocketAddr, Rc<Cell<u32>>) {
    let requests = Rc::new(Cell::new(0));
    let counter = requests.clone();
    let address = http1_server(move |_| {
        counter.set(counter.get() + 1);
        async { Response::new(full("served")) }
    })
    .await;
    (address, requests)
}

#[test]
fn strict_answers_plaintext_http_with_the_policy_that_refuses_it_request_by_request() {
    run(async {
        for protocol in [Protocol::Detect, Protocol::Http1, Protocol::Grpc, Protocol::Opaque] {
            let (application, requests) = counting().await;
            let proxy = InboundProxy::told(application, closed(application, protocol, &[], NODE), Vec::new());
            let mut client = TcpStream::connect(proxy.address).await.unwrap();
            for _ in 0..2 {
                let question = "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 2\r\n\r\nhi";
                let answer = ask(&mut client, question, "\r\n\r\n").await;
                assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
                let header = "conduit-error: tls-required; object=trafficpolicy/shop/closed\r\n";
                assert!(answer.contains(header), "{answer}");
            }
            assert_eq!(requests.get(), 0, "{protocol:?}");
            let refused = ["error=\"tls-required\"", "status_code=\"403\"", "classification=\"failure\""];
            assert_eq!(sum(&proxy.metrics, "route_response_total", &refused), 2.0);
        }
    });
}

#[test]
fn strict_answers_plaintext_grpc_with_permission_denied() {
    run(async {
        let application = http2_server(100, |_, _| async { Response::new(full("")) }).await;
        let told = closed(application, Protocol::Grpc, &[Probe::Path(GRPC_HEALTH_CHECK.into())], NODE);
        let proxy = InboundProxy::told(application, told, Vec::new());
        let mut client = http2_client(proxy.address).await;
        let call = |path: &str| {
            let call = Request::post(format!("http://web{path}")).version(Version::HTTP_2);
            call.header("content-type", "application/grpc").body(full("")).unwrap()
        };
        let answer = client.send_request(call("/shop.Orders/List")).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "7");
        let probed = client.send_request(call(GRPC_HEALTH_CHECK)).await.unwrap();
        assert!(!probed.headers().contains_key("grpc-status"), "the probe on the same connection is served");
    });
}

#[test]
fn strict_serves_probes_by_path_from_where_they_come_and_nothing_else() {
    run(async {
        let probes = [Probe::Path("/ready".into())];
        for (from, gateways, question, served) in [
            (NODE, vec![], "GET /ready HTTP/1.1", true),
            (NODE, vec![], "GET /ready?verbose=1 HTTP/1.1", true),
            (ELSEWHERE, vec![NODE.parse().unwrap()], "GET /ready HTTP/1.1", true),
            (ELSEWHERE, vec![], "GET /ready HTTP/1.1", false),
            (NODE, vec![], "POST /ready HTTP/1.1", false),
            (NODE, vec![], "GET / HTTP/1.1", false),
            (NODE, vec![], "GET /ready HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket", false),
        ] {
            let (application, requests) = counting().await;
            let told = closed(application, Protocol::Detect, &probes, from);
            let proxy = InboundProxy::told(application, told, gateways);
            let mut client = TcpStream::connect(proxy.address).await.unwrap();
            let end = if served { "served" } else { "\r\n\r\n" };
            let answer = ask(&mut client, &format!("{question}\r\nhost: web\r\n\r\n"), end).await;
            let status = if served { "HTTP/1.1 200 " } else { "HTTP/1.1 403 " };
            assert!(answer.starts_with(status), "{from} {question}: {answer}");
            assert_eq!(requests.get(), u32::from(served), "{question}");
        }
    });
}

/// What a client of `address` that says `first` is told, and how its connection ends.
async fn told(address: SocketAddr, first: &[u8]) -> (Vec<u8>, std::io::Result<usize>) {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(first).await.unwrap();
    let mut answer = Vec::new();
    let ended = client.read_to_end(&mut answer).await;
    (answer, ended)
}

/// The start of a hello that offers nothing.
const HELLO: &[u8] =
    b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03................................\x00\x00\x02\x13\x01\x01\x00\x00\x00";

#[test]
fn strict_resets_bytes_and_foreign_tls_that_prove_nothing_before_the_application_is_opened() {
    run(async {
        let application = server(|mut stream, _| async move {
            stream.write_all(b"hello").await.unwrap();
        })
        .await;
        let probes = [Probe::Path("/ready".into())];
        for protocol in [Protocol::Detect, Protocol::Opaque, Protocol::Tls] {
            let proxy = InboundProxy::told(application, closed(application, protocol, &probes, NODE), Vec::new());
            for first in [&b"*1\r\n$4\r\nPING\r\n"[..], HELLO] {
                let (answer, ended) = told(proxy.address, first).await;
                assert_eq!(answer, b"");
                assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "{protocol:?}");
            }
            assert_eq!(sum(&proxy.metrics, "conduit_connections_refused_total", &["reason=\"tls_required\""]), 2.0);
            assert_eq!(sum(&proxy.metrics, "tcp_open_total", &["peer=\"dst\""]), 0.0);
        }
    });
}

#[test]
fn strict_lets_a_probe_by_the_applications_own_tls_through() {
    run(async {
        let application = server(|mut stream, _| async move {
            let mut hello = vec![0; HELLO.len()];
            stream.read_exact(&mut hello).await.unwrap();
            assert_eq!(hello, HELLO);
            stream.write_all(b"hello").await.unwrap();
        })
        .await;
        let proxy =
            InboundProxy::told(application, closed(application, Protocol::Tls, &[Probe::Tls], NODE), Vec::new());
        let (answer, _) = told(proxy.address, HELLO).await;
        assert_eq!(answer, b"hello");
        let proxy =
            InboundProxy::told(application, closed(application, Protocol::Tls, &[Probe::Tls], ELSEWHERE), Vec::new());
        assert_eq!(told(proxy.address, HELLO).await.0, b"");
    });
}

#[test]
fn a_silent_client_and_a_hello_that_does_not_end_are_reset_under_strict() {
    run(async {
        let (application, _) = counting().await;
        let proxy = InboundProxy::told(application, closed(application, Protocol::Detect, &[], NODE), Vec::new());
        let ends = futures::future::join(told(proxy.address, b""), told(proxy.address, &HELLO[..20]));
        let ((_, silent), (_, unfinished)) = ends.await;
        for ended in [silent, unfinished] {
            assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn the_applications_own_tls_passes_untouched_where_policy_is_permissive() {
    run(async {
        for protocol in [Protocol::Detect, Protocol::Opaque, Protocol::Tls] {
            let application = server(|mut stream, _| async move {
                let mut hello = vec![0; HELLO.len()];
                stream.read_exact(&mut hello).await.unwrap();
                stream.write_all(&hello).await.unwrap();
            })
            .await;
            let proxy = InboundProxy::before(application, protocol);
            assert_eq!(told(proxy.address, HELLO).await.0, HELLO);
            let labels = ["peer=\"src\"", "tls=\"no_identity\"", "no_tls_reason=\"not_mesh_tls\""];
            wait_for(&proxy.metrics, "tcp_close_total", &labels, 1.0).await;
        }
    });
}

#[test]
fn a_policy_that_becomes_strict_refuses_the_next_request_of_an_open_connection_and_no_peer() {
    run(async {
        let (application, _) = counting().await;
        let proxy = InboundProxy::before(application, Protocol::Detect);
        let (mut client, mut peer) = (TcpStream::connect(proxy.address).await.unwrap(), proxy.peer(Alpn::Http1).await);
        let question = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
        assert!(ask(&mut client, question, "served").await.starts_with("HTTP/1.1 200 "));
        assert!(ask(&mut peer, question, "served").await.starts_with("HTTP/1.1 200 "));
        proxy.own.apply(closed(application, Protocol::Detect, &[], NODE).into());
        assert!(ask(&mut client, question, "\r\n\r\n").await.starts_with("HTTP/1.1 403 "));
        assert!(ask(&mut peer, question, "served").await.starts_with("HTTP/1.1 200 "));
        proxy.own.apply(proxy.inbound.clone().into());
        assert!(ask(&mut client, question, "served").await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_proxy_that_was_told_nothing_yet_serves_peers_alone() {
    run(async {
        let (application, _) = counting().await;
        let proxy = InboundProxy::untold(application);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let question = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
        let answer = ask(&mut client, question, "\r\n\r\n").await;
        assert!(answer.contains("conduit-error: tls-required\r\n"), "{answer}");
        assert!(ask(&mut proxy.peer(Alpn::Http1).await, question, "served").await.starts_with("HTTP/1.1 200 "));
    });
}
