//! Peers of the mesh, which prove who they are and say what their connections carry.

use crate::{identity::Alpn, support::*};
use conduit_model::{InboundMtls, InboundMtlsMode, Protocol};
use conduit_proxy::identity::Credentials;
use http::{Request, Version};
use http_body_util::BodyExt;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

const CLIENT: &str = "client_id=\"spiffe://cluster.local/ns/shop/sa/client\"";
const EVERY_PROTOCOL: [Protocol; 6] =
    [Protocol::Detect, Protocol::Http1, Protocol::Http2, Protocol::Grpc, Protocol::Tls, Protocol::Opaque];

/// An application that says which version of HTTP it was asked by.
async fn echo_version() -> std::net::SocketAddr {
    http1_server(|request| async move { http::Response::new(full(format!("{:?}!", request.version()))) }).await
}

#[test]
fn a_peer_is_served_as_it_says_whatever_the_port_declares() {
    run(async {
        for protocol in EVERY_PROTOCOL {
            for mode in [InboundMtlsMode::Strict, InboundMtlsMode::Permissive, InboundMtlsMode::Disable] {
                let application = echo_version().await;
                let mut port = inbound_port(application, protocol);
                port.mtls = InboundMtls { mode, source: None };
                let inbound =
                    conduit_model::Inbound { ports: vec![port], ..conduit_model::Inbound::of(workload("web")) };
                let proxy = InboundProxy::told(application, inbound, Vec::new());
                for alpn in [Alpn::Http1, Alpn::Tcp] {
                    let mut peer = proxy.peer(alpn).await;
                    let answer = ask(&mut peer, "GET / HTTP/1.1\r\nhost: web\r\n\r\n", "!").await;
                    assert!(answer.ends_with("HTTP/1.1!"), "{protocol:?} {mode:?} {alpn:?} {answer}");
                }
                let identified = ["direction=\"inbound\"", "tls=\"true\"", CLIENT];
                wait_for(&proxy.metrics, "response_total", &identified, 1.0).await;
                assert_eq!(sum(&proxy.metrics, "tcp_open_total", &identified), 2.0);
                assert!(sum(&proxy.metrics, "tcp_read_bytes_total", &identified) > 1000.0, "the handshake counts");
                assert_eq!(sum(&proxy.metrics, "conduit_tls_handshakes_total", &["result=\"full\""]), 2.0);
            }
        }
    });
}

#[test]
fn a_peer_by_http2_is_served_whatever_the_port_declares() {
    run(async {
        for protocol in EVERY_PROTOCOL {
            let application =
                http2_server(
                    100,
                    |request, _| async move { http::Response::new(full(format!("{:?}", request.version()))) },
                )
                .await;
            let proxy = InboundProxy::before(application, protocol);
            let mut client = http2_client_on(proxy.peer(Alpn::Http2).await).await;
            let request = Request::get("http://web/").version(Version::HTTP_2).body(full("")).unwrap();
            let answer = client.send_request(request).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "HTTP/2.0", "{protocol:?}");
        }
    });
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once_by_a_peer() {
    run(async {
        let application = server(|mut stream, _| async move {
            stream.write_all(b"220 mail\r\n").await.unwrap();
            let _ = stream.read_u8().await;
        })
        .await;
        let proxy = InboundProxy::before(application, Protocol::Detect);
        let start = std::time::Instant::now();
        let mut peer = proxy.peer(Alpn::Tcp).await;
        assert_eq!(read_until(&mut peer, "\r\n").await, "220 mail\r\n");
        assert!(start.elapsed() < DETECT_TIMEOUT, "{:?}", start.elapsed());
    });
}

#[test]
fn a_peer_whose_first_bytes_are_late_is_still_known() {
    run(async {
        for protocol in EVERY_PROTOCOL {
            let application = echo_version().await;
            let proxy = InboundProxy::before(application, protocol);
            let stream = TcpStream::connect(proxy.address).await.unwrap();
            tokio::time::sleep(DETECT_TIMEOUT * 2).await;
            let (credentials, web) =
                (proxy.authority.credentials("client"), proxy.authority.domain.identity("shop", "web"));
            let peer = credentials.connect(stream, proxy.address.ip(), &web, Alpn::Http1).await;
            let answer = ask(&mut peer.unwrap(), "GET / HTTP/1.1\r\nhost: web\r\n\r\n", "!").await;
            assert!(answer.ends_with("HTTP/1.1!"), "{protocol:?} {answer}");
        }
    });
}

#[test]
fn whoever_cannot_prove_an_identity_of_the_mesh_gets_nothing_and_no_plaintext_either() {
    run(async {
        let application = echo_version().await;
        let proxy = InboundProxy::before(application, Protocol::Detect);
        let stranger = proxy.authority.successor();
        let foreign = crate::identity::fake::Authority::of("other.local", proxy.authority.clock.clone());
        for authority in [&stranger, &foreign] {
            // It trusts the proxy, which does not trust it.
            let credentials = authority.make(authority.request("client"), proxy.authority.bundle());
            let refused = match proxy.connect(&credentials, Alpn::Http1).await {
                // A client that has said its last word learns from the first read.
                Ok(mut peer) => peer.read_u8().await.is_err(),
                Err(_) => true,
            };
            assert!(refused);
        }
        wait_for(&proxy.metrics, "conduit_tls_handshakes_total", &["result=\"failed\""], 2.0).await;
        let failed = ["peer=\"src\"", "tls=\"no_identity\"", "no_tls_reason=\"handshake_failed\""];
        wait_for(&proxy.metrics, "tcp_close_total", &failed, 2.0).await;
        assert!(!shown(&proxy.metrics).contains("\nrequest_total{"), "there was no request");
        assert_eq!(sum(&proxy.metrics, "tcp_open_total", &["peer=\"dst\""]), 0.0, "the application was not reached");
    });
}

#[test]
fn a_session_that_goes_on_has_the_same_peer() {
    run(async {
        let application = echo_version().await;
        let proxy = InboundProxy::before(application, Protocol::Detect);
        let client = proxy.authority.credentials("client");
        for _ in 0..2 {
            let mut peer = proxy.connect(&client, Alpn::Http1).await.unwrap();
            ask(&mut peer, "GET / HTTP/1.1\r\nhost: web\r\n\r\n", "!").await;
        }
        wait_for(&proxy.metrics, "response_total", &["tls=\"true\"", CLIENT], 2.0).await;
        assert_eq!(sum(&proxy.metrics, "conduit_tls_handshakes_total", &["result=\"full\""]), 1.0);
        assert_eq!(sum(&proxy.metrics, "conduit_tls_handshakes_total", &["result=\"resumed\""]), 1.0);
    });
}

#[test]
fn a_proxy_that_has_no_certificate_yet_resets_peers_and_serves_plaintext_where_policy_lets_it() {
    run(async {
        let application = echo_version().await;
        let proxy = InboundProxy::uncertified(application);
        let client = proxy.authority.credentials("client");
        assert!(proxy.connect(&client, Alpn::Http1).await.is_err());
        let missing = ["result=\"failed\"", "reason=\"no_certificate\""];
        wait_for(&proxy.metrics, "conduit_tls_handshakes_total", &missing, 1.0).await;
        let answer = exchange(proxy.address, "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").await;
        assert!(answer.ends_with("HTTP/1.1!"), "{answer}");
    });
}

#[test]
fn a_proxy_whose_certificate_is_over_takes_no_connections_and_keeps_those_that_it_has() {
    run(async {
        let application = echo_version().await;
        let proxy = InboundProxy::before(application, Protocol::Detect);
        let mut open = proxy.peer(Alpn::Http1).await;
        ask(&mut open, "GET / HTTP/1.1\r\nhost: web\r\n\r\n", "!").await;
        let client = proxy.authority.credentials("client");
        proxy.authority.clock.advance(Duration::from_secs(25 * 3600));
        let late = proxy.authority.make(proxy.authority.request("client"), proxy.authority.bundle());
        assert!(proxy.connect(&late, Alpn::Http1).await.is_err());
        assert!(proxy.connect(&client, Alpn::Http1).await.is_err());
        let over = ["result=\"failed\"", "reason=\"own_certificate_expired\""];
        wait_for(&proxy.metrics, "conduit_tls_handshakes_total", &over, 1.0).await;
        let answer = ask(&mut open, "GET / HTTP/1.1\r\nhost: web\r\n\r\n", "!").await;
        assert!(answer.ends_with("HTTP/1.1!"), "{answer}");
    });
}

/// A hello of TLS 1.2, whose extensions offer only `conduit/h2`.
fn tls12_hello() -> Vec<u8> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let protocols = sized(b"\x0aconduit/h2");
    let groups = sized(&[0, 0x1d]);
    let signatures = sized(&[4, 3]);
    let extensions =
        [&[0, 10][..], &sized(&groups), &[0, 13], &sized(&signatures), &[0, 16], &sized(&protocols)].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &sized(&[0xc0, 0x2b]), &[1, 0], &sized(&extensions)].concat();
    [&[22, 3, 1][..], &sized(&[&[1, 0][..], &sized(&body)].concat())].concat()
}

#[test]
fn a_peer_that_offers_no_more_than_tls_1_2_is_refused_with_an_alert() {
    run(async {
        let application = echo_version().await;
        let proxy = InboundProxy::before(application, Protocol::Detect);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(&tls12_hello()).await.unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        // RFC 8446 section 6.2: protocol_version, fatal.
        assert_eq!((answer.first(), answer.last()), (Some(&21), Some(&70)), "{answer:?}");
        assert_eq!(sum(&proxy.metrics, "tcp_open_total", &["peer=\"dst\""]), 0.0);
    });
}

#[test]
fn a_half_closed_peer_hears_the_rest_and_a_reset_of_the_application_reaches_it() {
    run(async {
        let application = server(|mut stream, number| async move {
            if number == 0 {
                let mut question = String::new();
                stream.read_to_string(&mut question).await.unwrap();
                stream.write_all(format!("you said {question}").as_bytes()).await.unwrap();
            } else {
                let _ = stream.read_u8().await;
                stream.set_zero_linger().unwrap();
            }
        })
        .await;
        let proxy = InboundProxy::before(application, Protocol::Opaque);
        let mut peer = proxy.peer(Alpn::Tcp).await;
        peer.write_all(b"PING").await.unwrap();
        peer.shutdown().await.unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "you said PING");

        let mut peer = proxy.peer(Alpn::Tcp).await;
        peer.write_all(b"PING").await.unwrap();
        let error = peer.read_u8().await.unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::NotConnected);
    });
}

/// What a client says first, and nothing else.
async fn first_words(proxy: &InboundProxy, client: &Credentials) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(16 * 1024);
    let web = proxy.authority.domain.identity("shop", "web");
    let hello = async {
        let mut hello = vec![0; 16 * 1024];
        let length = far.read(&mut hello).await.unwrap();
        hello[..length].to_vec()
    };
    tokio::select! {
        _ = client.connect(near, proxy.address.ip(), &web, Alpn::Tcp) => panic!("nobody has answered"),
        hello = hello => hello,
    }
}

#[test]
fn an_address_that_begins_many_handshakes_waits_for_its_own_and_keeps_no_other_out() {
    run(async {
        let application = echo_version().await;
        let proxy = InboundProxy::before(application, Protocol::Detect);
        let client = proxy.authority.credentials("client");
        let hello = first_words(&proxy, &client).await;
        let begin = async || {
            let mut stream = TcpStream::connect(proxy.address).await.unwrap();
            stream.write_all(&hello).await.unwrap();
            stream
        };
        let mut begun = Vec::new();
        for _ in 0..64 {
            let mut stream = begin().await;
            stream.read_u8().await.unwrap();
            begun.push(stream);
        }
        let mut next = begin().await;
        let answer = tokio::time::timeout(Duration::from_millis(200), next.read_u8()).await;
        assert!(answer.is_err(), "one more has to wait");

        let elsewhere = TcpSocket::new_v4().unwrap();
        elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let elsewhere = elsewhere.connect(proxy.address).await.unwrap();
        let web = proxy.authority.domain.identity("shop", "web");
        let mut peer = client.connect(elsewhere, proxy.address.ip(), &web, Alpn::Http1).await.unwrap();
        let answer = ask(&mut peer, "GET / HTTP/1.1\r\nhost: web\r\n\r\n", "!").await;
        assert!(answer.ends_with("HTTP/1.1!"), "{answer}");

        begun.pop();
        next.read_u8().await.unwrap();
    });
}

#[test]
fn a_handshake_that_does_not_go_on_is_given_up() {
    run(async {
        let application = echo_version().await;
        let proxy = InboundProxy::before(application, Protocol::Detect);
        let client = proxy.authority.credentials("client");
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(&first_words(&proxy, &client).await).await.unwrap();
        assert!(stream.read_u8().await.is_ok(), "the proxy answers");
        tokio::time::pause();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        let timeout = ["result=\"failed\"", "reason=\"timeout\""];
        assert_eq!(sum(&proxy.metrics, "conduit_tls_handshakes_total", &timeout), 1.0);
    });
}
