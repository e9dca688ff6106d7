//! What the outbound proxy proves, demands and never falls back from.

use crate::{identity::fake::Authority, support::*};
use conduit_model::{
    DirectReason, Endpoint, EndpointProxy, Forward, Inbound, Outbound, OutboundTls, OutboundTlsMode, Protocol,
};
use conduit_proxy::{identity::Identity, upstream::own::Own};
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

const GET: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
const LAST_GET: &str = "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
const SECURED: [&str; 3] = ["tls=\"true\"", "server_id=\"spiffe://cluster.local/ns/shop/sa/web\"", "peer=\"dst\""];

async fn ok_server() -> SocketAddr {
    http1_server(|_| async { Response::new(full("ok")) }).await
}

/// A server that counts the connections on which it was sent anything.
async fn eavesdropper() -> (SocketAddr, Rc<Cell<usize>>) {
    let heard = Rc::new(Cell::new(0));
    let count = heard.clone();
    let address = server(move |mut stream, _| {
        let count = count.clone();
        async move {
            let mut first = [0; 5];
            if stream.read_exact(&mut first).await.is_ok() {
                // A ClientHello says nothing that is secret.
                if first[..2] != [22, 3] {
                    count.set(count.get() + 1);
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    (address, heard)
}

fn outbound(protocol: Protocol, mode: OutboundTlsMode, forward: Forward) -> Outbound {
    let tls = OutboundTls { mode, source: None };
    Outbound { protocol, service: Some(service_port()), routes: Vec::new(), forward, tls }
}

/// A proxy that balances over `endpoints` as `mode` says.
fn by_policy(mode: OutboundTlsMode, endpoints: &[Endpoint], identity: Arc<Identity>) -> OutboundProxy {
    let config = outbound(Protocol::Detect, mode, Forward::Balance);
    let proxy = OutboundProxy::of(config, "10.96.0.1:80".parse().unwrap(), identity);
    proxy.destination.apply_endpoints(conduit_model::EndpointUpdate::Whole(endpoints.to_vec()));
    proxy
}

#[test]
fn an_endpoint_that_is_somebody_else_is_told_nothing_and_another_is_asked() {
    run(async {
        let alive = InboundProxy::before(ok_server().await, Protocol::Http1);
        let reached = Rc::new(Cell::new(0));
        let other = {
            let (reached, credentials) = (reached.clone(), alive.authority.credentials("intruder"));
            server(move |stream, _| {
                let (reached, credentials) = (reached.clone(), credentials.clone());
                async move {
                    if let Ok((mut stream, _, _)) = credentials.accept(stream).await
                        && stream.read_u8().await.is_ok()
                    {
                        reached.set(reached.get() + 1);
                    }
                }
            })
            .await
        };
        let mut resent = 0.0;
        for _ in 0..20 {
            let endpoints = [endpoint(other, true), endpoint(alive.address, true)];
            let proxy = OutboundProxy::meshed(Protocol::Http1, &endpoints, alive.authority.identity("client"));
            let answer = exchange(proxy.address, LAST_GET).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            let failed = sum(&proxy.metrics, "conduit_requests_resent_total", &["error=\"tls-failed\""]);
            let labels = ["direction=\"outbound\"", "result=\"failed\"", "reason=\"wrong_peer\""];
            assert_eq!(sum(&proxy.metrics, "conduit_tls_handshakes_total", &labels), failed);
            resent += failed;
        }
        assert!(resent > 0.0, "the wrong one was never chosen");
        assert_eq!(reached.get(), 0);
    });
}

#[test]
fn an_endpoint_that_claims_to_be_meshed_and_is_not_gets_no_plaintext_whatever_policy_says() {
    run(async {
        for mode in [OutboundTlsMode::Prefer, OutboundTlsMode::Require] {
            let (address, heard) = eavesdropper().await;
            let proxy = by_policy(mode, &[endpoint(address, true)], Authority::new().identity("client"));
            let answer = exchange(proxy.address, LAST_GET).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("conduit-error: tls-failed; object=service/shop/web\r\n"), "{answer}");
            let mut bytes = TcpStream::connect(proxy.address).await.unwrap();
            bytes.write_all(b"not HTTP\n").await.unwrap();
            assert_eq!(bytes.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(heard.get(), 0, "{mode:?}");
        }
    });
}

#[test]
fn with_require_an_endpoint_without_mutual_tls_is_not_used_in_any_protocol() {
    run(async {
        let (address, heard) = eavesdropper().await;
        let plaintext = Endpoint { proxy: EndpointProxy::Plaintext, ..endpoint(address, true) };
        for unsecured in [endpoint(address, false), plaintext] {
            let proxy = by_policy(OutboundTlsMode::Require, &[unsecured], Authority::new().identity("client"));
            let answer = exchange(proxy.address, LAST_GET).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("conduit-error: tls-required; object=service/shop/web\r\n"), "{answer}");

            let mut client = http2_client(proxy.address).await;
            let request = Request::post("http://web/a.B/C")
                .version(Version::HTTP_2)
                .header("content-type", "application/grpc")
                .body(full(""))
                .unwrap();
            let response = client.send_request(request).await.unwrap();
            assert_eq!(
                (&response.headers()["grpc-status"], &response.headers()["grpc-message"]),
                (&"14".parse().unwrap(), &"tls-required".parse().unwrap())
            );

            let mut bytes = TcpStream::connect(proxy.address).await.unwrap();
            bytes.write_all(b"not HTTP\n").await.unwrap();
            assert_eq!(bytes.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(sum(&proxy.metrics, "tcp_open_total", &["peer=\"dst\""]), 0.0);
        }
        assert_eq!(heard.get(), 0);
    });
}

#[test]
fn with_disable_peers_get_plaintext_and_series_say_why() {
    run(async {
        let inbound = InboundProxy::before(ok_server().await, Protocol::Http1);
        let proxy = by_policy(
            OutboundTlsMode::Disable,
            &[endpoint(inbound.address, true)],
            inbound.authority.identity("client"),
        );
        assert!(exchange(proxy.address, LAST_GET).await.ends_with("ok"));
        let labels = ["tls=\"no_identity\"", "no_tls_reason=\"disabled_by_policy\""];
        assert_eq!(sum(&proxy.metrics, "request_total", &labels), 1.0);
        wait_for(&inbound.metrics, "request_total", &["no_tls_reason=\"no_tls_from_remote\""], 1.0).await;
    });
}

#[test]
fn a_change_to_require_takes_hold_with_the_next_request_on_an_open_connection() {
    run(async {
        let application = ok_server().await;
        let proxy = by_policy(OutboundTlsMode::Prefer, &[endpoint(application, false)], Identity::new(domain()));
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        ask(&mut client, GET, "ok").await;
        let required = outbound(Protocol::Detect, OutboundTlsMode::Require, Forward::Balance);
        proxy.destination.apply_config(Arc::new(required));
        let answer = ask(&mut client, GET, "\r\n\r\n").await;
        assert!(answer.contains("conduit-error: tls-required"), "{answer}");
    });
}

#[test]
fn a_request_that_began_before_require_does_not_bring_plaintext_back_for_itself_nor_for_others() {
    run(async {
        let (plaintext, heard) = eavesdropper().await;
        let (begun, go_on) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let stalling = {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            server(move |stream, _| {
                let (begun, go_on) = (begun.clone(), go_on.clone());
                async move {
                    begun.notify_one();
                    go_on.notified().await;
                    drop(stream);
                }
            })
            .await
        };
        let endpoints = [endpoint(stalling, true), endpoint(plaintext, false)];
        let proxy = by_policy(OutboundTlsMode::Prefer, &endpoints[..1], Authority::new().identity("client"));
        let early = tokio::task::spawn_local(exchange(proxy.address, LAST_GET));
        begun.notified().await;
        let required = outbound(Protocol::Detect, OutboundTlsMode::Require, Forward::Balance);
        proxy.destination.apply_config(Arc::new(required));
        proxy.destination.apply_endpoints(conduit_model::EndpointUpdate::Whole(endpoints.to_vec()));
        // One that comes in between, and says nothing yet.
        let mut late = TcpStream::connect(proxy.address).await.unwrap();
        wait_for(&proxy.metrics, "tcp_open_total", &["peer=\"src\""], 2.0).await;
        go_on.notify_one();
        let answer = early.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        go_on.notify_one();
        let answer = ask(&mut late, GET, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!(heard.get(), 0);
    });
}

#[test]
fn what_a_configuration_requires_holds_before_its_endpoints_are_known() {
    run(async {
        let application = ok_server().await;
        for (mode, passes) in [(OutboundTlsMode::Prefer, true), (OutboundTlsMode::Require, false)] {
            let config = outbound(Protocol::Detect, mode, Forward::Balance);
            let own = Own::new();
            own.apply(Arc::new(Inbound::of(workload("client"))));
            let proxy = OutboundProxy::told(own, config, application, Identity::new(domain()));
            let mut client = TcpStream::connect(proxy.address).await.unwrap();
            client.write_all(LAST_GET.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let ended = client.read_to_string(&mut answer).await;
            assert_eq!((ended.is_ok(), answer.ends_with("ok")), (passes, passes), "{mode:?}: {answer}");
        }
    });
}

#[test]
fn what_nothing_is_known_of_passes_only_where_policy_lets_it() {
    run(async {
        for (reason, label) in [
            (DirectReason::UnknownAddress, "no_tls_reason=\"unknown_destination\""),
            (DirectReason::LeftToKubeProxy, "no_tls_reason=\"left_to_kube_proxy\""),
        ] {
            let application = ok_server().await;
            let direct = || Forward::Direct { reason, endpoint: None };
            let prefer =
                OutboundProxy::start(outbound(Protocol::Opaque, OutboundTlsMode::Prefer, direct()), application);
            assert!(exchange(prefer.address, LAST_GET).await.ends_with("ok"));
            assert_eq!(sum(&prefer.metrics, "tcp_open_total", &["peer=\"dst\"", label]), 1.0);
            let require =
                OutboundProxy::start(outbound(Protocol::Opaque, OutboundTlsMode::Require, direct()), application);
            let mut client = TcpStream::connect(require.address).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(sum(&require.metrics, "tcp_open_total", &["peer=\"dst\""]), 0.0);
        }
    });
}

#[test]
fn a_pod_that_is_called_by_its_own_address_is_authenticated_too() {
    run(async {
        let inbound = InboundProxy::before(ok_server().await, Protocol::Http1);
        let forward = Forward::Direct { reason: DirectReason::Pod, endpoint: Some(endpoint(inbound.address, true)) };
        let config = outbound(Protocol::Http1, OutboundTlsMode::Prefer, forward);
        let proxy = OutboundProxy::of(config, inbound.address, inbound.authority.identity("client"));
        assert!(exchange(proxy.address, LAST_GET).await.ends_with("ok"));
        assert_eq!(sum(&proxy.metrics, "tcp_open_total", &SECURED), 1.0);
    });
}

#[test]
fn a_proxy_without_a_certificate_says_so_and_sends_nothing() {
    run(async {
        let (address, heard) = eavesdropper().await;
        let proxy = OutboundProxy::balancing(Protocol::Http1, &[endpoint(address, true)]);
        let answer = exchange(proxy.address, LAST_GET).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("conduit-error: identity-missing; object=service/shop/web\r\n"), "{answer}");
        assert_eq!((heard.get(), sum(&proxy.metrics, "tcp_open_total", &["peer=\"dst\""])), (0, 0.0));
    });
}

#[test]
fn past_its_certificates_end_a_proxy_uses_what_is_open_and_opens_nothing_until_it_has_a_new_one() {
    run(async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let answer = |_| async { Response::new(full("ok")) };
            let application = match protocol {
                Protocol::Http1 => http1_server(answer).await,
                _ => http2_server(100, move |request, _| answer(request)).await,
            };
            let inbound = InboundProxy::before(application, protocol);
            let late = inbound.beside(application, protocol);
            let authority = inbound.authority.clone();
            let identity = authority.identity("client");
            let proxy = OutboundProxy::meshed(protocol, &[endpoint(inbound.address, true)], identity.clone());
            let get = async || match protocol {
                Protocol::Http1 => exchange(proxy.address, LAST_GET).await,
                _ => {
                    let request = Request::get("http://web/").version(Version::HTTP_2).body(full("")).unwrap();
                    let response = http2_client(proxy.address).await.send_request(request).await.unwrap();
                    let code = response.headers().get("conduit-error").map(|code| code.to_str().unwrap().to_owned());
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    code.unwrap_or_else(|| String::from_utf8(body.to_vec()).unwrap())
                }
            };
            assert!(get().await.ends_with("ok"));
            authority.clock.advance(Duration::from_secs(25 * 3600));
            assert!(get().await.ends_with("ok"), "on the connection that is open");
            assert_eq!(sum(&proxy.metrics, "tcp_open_total", &["peer=\"dst\""]), 1.0);

            proxy.destination.apply_endpoints(conduit_model::EndpointUpdate::Whole(vec![endpoint(late.address, true)]));
            let expired = get().await;
            assert!(expired.contains("identity-expired; object=service/shop/web"), "{expired}");

            identity.set(authority.make(authority.request("client"), authority.bundle())).unwrap();
            let renewed = authority.make(authority.request("web"), authority.bundle());
            let peer = peer_server_of(Arc::new(renewed), protocol).await;
            proxy.destination.apply_endpoints(conduit_model::EndpointUpdate::Whole(vec![endpoint(peer, true)]));
            assert!(get().await.ends_with("ok"), "with a new certificate");
        }
    });
}

/// A proxy that answers "ok" by these credentials.
async fn peer_server_of(credentials: Arc<conduit_proxy::identity::Credentials>, protocol: Protocol) -> SocketAddr {
    server(move |stream, _| {
        let credentials = credentials.clone();
        async move {
            let (stream, _, _) = credentials.accept(stream).await.unwrap();
            let ok = hyper::service::service_fn(|_| async { Ok::<_, hyper::Error>(Response::new(full("ok"))) });
            let io = hyper_util::rt::TokioIo::new(stream);
            let _ = match protocol {
                Protocol::Http1 => hyper::server::conn::http1::Builder::new().serve_connection(io, ok).await,
                _ => hyper::server::conn::http2::Builder::new(Local).serve_connection(io, ok).await,
            };
        }
    })
    .await
}

#[test]
fn a_client_whose_certificate_the_endpoint_refuses_learns_that_tls_failed_and_not_that_a_response_broke() {
    run(async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let answer = |_| async { Response::new(full("ok")) };
            let application = match protocol {
                Protocol::Http1 => http1_server(answer).await,
                _ => http2_server(100, move |request, _| answer(request)).await,
            };
            // It trusts the endpoint, which does not trust it.
            let inbound = InboundProxy::before(application, protocol);
            let stranger = inbound.authority.successor();
            let identity = Identity::with_clock(domain(), inbound.authority.clock());
            identity.set(stranger.make(stranger.request("client"), inbound.authority.bundle())).unwrap();
            let proxy = OutboundProxy::meshed(protocol, &[endpoint(inbound.address, true)], identity);
            let code = match protocol {
                Protocol::Http1 => exchange(proxy.address, LAST_GET).await,
                _ => {
                    let request = Request::get("http://web/").version(Version::HTTP_2).body(full("")).unwrap();
                    let response = http2_client(proxy.address).await.send_request(request).await.unwrap();
                    response.headers()["conduit-error"].to_str().unwrap().to_owned()
                }
            };
            assert!(code.contains("tls-failed; object=service/shop/web"), "{code}");
        }
    });
}

#[test]
fn a_server_that_speaks_first_is_heard_through_both_proxies() {
    run(async {
        let application = server(|mut stream, _| async move {
            stream.write_all(b"220 mail\r\n").await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            stream.write_all(format!("250 {said}\r\n").as_bytes()).await.unwrap();
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Detect);
        let start = Instant::now();
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        assert_eq!(read_until(&mut client, "220 mail\r\n").await, "220 mail\r\n");
        assert!(start.elapsed() < DETECT_TIMEOUT * 2, "the inbound proxy does not wait a second time");
        client.write_all(b"QUIT").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_until(&mut client, "\r\n").await, "250 QUIT\r\n");
        assert_eq!(sum(&outbound.metrics, "tcp_open_total", &SECURED), 1.0);
        wait_for(&inbound.metrics, "tcp_open_connections", &[], 0.0).await;
        let orderly = ["errno=\"\"", "peer=\"src\""];
        assert_eq!(sum(&inbound.metrics, "tcp_close_total", &orderly), 1.0);
    });
}

#[test]
fn handshakes_are_counted_and_an_earlier_session_goes_on_with_less() {
    run(async {
        let application = server(|mut stream, _| async move {
            while stream.read_u8().await.is_ok_and(|byte| byte != b'.') {}
            stream.write_all(b"done.").await.unwrap();
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Opaque);
        for _ in 0..3 {
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            ask(&mut client, "hello.", "done.").await;
        }
        let count =
            |result| sum(&outbound.metrics, "conduit_tls_handshakes_total", &["direction=\"outbound\"", result]);
        assert_eq!((count("result=\"full\""), count("result=\"resumed\"")), (1.0, 2.0));
        let took = sum(&outbound.metrics, "conduit_tls_handshake_latency_ms_count", &["direction=\"outbound\""]);
        assert_eq!(took, 3.0);
    });
}
