//! Requests that are sent to another endpoint, and those that must not be.

use crate::{identity::fake::Authority, support::*};
use bytes::Bytes;
use conduit_model::{EndpointUpdate, Protocol};
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use std::{cell::Cell, net::SocketAddr, rc::Rc};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const POST: &str = "POST / HTTP/1.1\r\nhost: web\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";

/// A server that answers with the body of the request.
async fn echo() -> SocketAddr {
    http1_server(|request| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(body))
    })
    .await
}

#[test]
fn a_post_that_an_endpoint_refuses_arrives_whole_at_another() {
    run(async {
        let alive = echo().await;
        for _ in 0..8 {
            let endpoints =
                [endpoint(refusing().await, false), endpoint(refusing().await, false), endpoint(alive, false)];
            let proxy = OutboundProxy::balancing(Protocol::Http1, &endpoints);
            let answer = exchange(proxy.address, POST).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
            assert_eq!(sum(&proxy.metrics, "route_request_total", &[]), 1.0);
            assert_eq!(sum(&proxy.metrics, "route_response_total", &["classification=\"success\""]), 1.0);
            let resent = sum(&proxy.metrics, "conduit_requests_resent_total", &["error=\"connect-refused\""]);
            assert_eq!(sum(&proxy.metrics, "request_total", &[]), 1.0 + resent);
        }
    });
}

#[test]
fn a_post_that_reached_a_proxy_but_no_application_arrives_whole_at_another() {
    run(async {
        let alive = InboundProxy::before(echo().await, Protocol::Http1);
        let mut resent = 0.0;
        for _ in 0..20 {
            let down = alive.beside(refusing().await, Protocol::Http1);
            let endpoints = [endpoint(down.address, true), endpoint(alive.address, true)];
            let proxy = OutboundProxy::meshed(Protocol::Http1, &endpoints, alive.authority.identity("client"));
            let answer = exchange(proxy.address, POST).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
            resent += sum(&proxy.metrics, "conduit_requests_resent_total", &[]);
        }
        assert!(resent > 0.0, "the one that is down was never chosen");
    });
}

#[test]
fn a_grpc_request_that_reached_no_application_is_sent_again_too() {
    run(async {
        let application = http2_server(100, |request, _| async {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(full(body))
        })
        .await;
        let alive = InboundProxy::before(application, Protocol::Grpc);
        for _ in 0..8 {
            let down = alive.beside(refusing().await, Protocol::Grpc);
            let endpoints = [endpoint(down.address, true), endpoint(alive.address, true)];
            let proxy = OutboundProxy::meshed(Protocol::Grpc, &endpoints, alive.authority.identity("client"));
            let mut client = http2_client(proxy.address).await;
            let request = Request::post("http://web/a.B/C")
                .version(Version::HTTP_2)
                .header("content-type", "application/grpc")
                .body(full("message"))
                .unwrap();
            let response = client.send_request(request).await.unwrap();
            assert!(!response.headers().contains_key("grpc-status"), "{response:?}");
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "message");
        }
    });
}

#[test]
fn a_body_that_is_sent_again_arrives_whole_where_the_answer_comes_before_it() {
    run(async {
        // It takes a few bytes at a time, so that its answer is on its way long before the body.
        let alive = server(|stream, _| async move {
            let echo = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async {
                Ok::<_, hyper::Error>(Response::new(request.into_body()))
            });
            let mut builder = hyper::server::conn::http2::Builder::new(Local);
            builder.initial_stream_window_size(100);
            let _ = builder.serve_connection(TokioIo::new(stream), echo).await;
        })
        .await;
        let mut resent = 0.0;
        for _ in 0..20 {
            let authority = Authority::new();
            let down = peer_server(&authority, |stream, _| async {
                let refuse = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async {
                    request.into_body().collect().await?;
                    let answer = Response::builder().status(503).header("conduit-error", "connect-refused");
                    Ok::<_, hyper::Error>(answer.body(full("")).unwrap())
                });
                let builder = hyper::server::conn::http2::Builder::new(Local);
                let _ = builder.serve_connection(TokioIo::new(stream), refuse).await;
            })
            .await;
            let identity = authority.identity("client");
            let proxy = OutboundProxy::meshed(Protocol::Grpc, &[endpoint(alive, false)], identity);
            let mut client = http2_client(proxy.address).await;
            let post = |body| Request::post("http://web/").version(Version::HTTP_2).body(body).unwrap();
            // Now the proxy knows the window.
            client.send_request(post(full("hello"))).await.unwrap().into_body().collect().await.unwrap();
            let both = vec![endpoint(down, true), endpoint(alive, false)];
            proxy.destination.apply_endpoints(EndpointUpdate::Whole(both));
            let pieces = (0..10).map(|_| Frame::data(Bytes::from(vec![b'a'; 1000])));
            let trailers = HeaderMap::from_iter([("x-end".parse().unwrap(), "1".parse().unwrap())]);
            let frames = futures::stream::iter(pieces.chain([Frame::trailers(trailers)]).map(Ok));
            let response = client.send_request(post(StreamBody::new(frames).boxed_unsync())).await.unwrap();
            let echoed = response.into_body().collect().await.unwrap();
            assert_eq!(echoed.trailers().map(HeaderMap::len), Some(1));
            assert_eq!(echoed.to_bytes().len(), 10_000);
            resent += sum(&proxy.metrics, "conduit_requests_resent_total", &[]);
        }
        assert!(resent > 0.0, "the one that is down was never chosen");
    });
}

#[test]
fn a_body_that_is_too_large_to_be_kept_is_not_sent_again() {
    run(async {
        // The one that is down answers when it has had the whole body; the first endpoint is tried alone to be sure of it.
        let authority = Authority::new();
        let down = peer_server(&authority, |mut stream, _| async move {
            read_until(&mut stream, "x\n").await;
            let answer =
                "HTTP/1.1 503 Service Unavailable\r\nconduit-error: connect-refused\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        })
        .await;
        let reached = Rc::new(Cell::new(0));
        let count = reached.clone();
        let other = http1_server(move |_| {
            count.set(count.get() + 1);
            async { Response::new(full("")) }
        })
        .await;
        let endpoints = [endpoint(down, true), endpoint(other, false)];
        let proxy = OutboundProxy::meshed(Protocol::Http1, &endpoints, authority.identity("client"));
        let body = format!("{}x\n", "a".repeat(100_000));
        let request = format!(
            "POST / HTTP/1.1\r\nhost: web\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        for _ in 0..20 {
            let before = reached.get();
            let answer = exchange(proxy.address, &request).await;
            match answer.starts_with("HTTP/1.1 503 ") {
                true => assert_eq!(reached.get(), before, "half a body was sent on"),
                false => assert_eq!(reached.get(), before + 1),
            }
        }
        assert_eq!(sum(&proxy.metrics, "conduit_requests_resent_total", &[]), 0.0);
    });
}

#[test]
fn what_may_have_reached_an_application_is_not_sent_again() {
    run(async {
        let reached = Rc::new(Cell::new(0));
        let count = reached.clone();
        let dies = server(move |mut stream: TcpStream, _| {
            let count = count.clone();
            async move {
                read_until(&mut stream, "hello").await;
                count.set(count.get() + 1);
            }
        })
        .await;
        let proxy = OutboundProxy::balancing(Protocol::Http1, &[endpoint(dies, false), endpoint(dies, false)]);
        let answer = exchange(proxy.address, POST).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert!(answer.contains("conduit-error: response-broken; object=service/shop/web\r\n"), "{answer}");
        assert_eq!(reached.get(), 1);
    });
}

#[test]
fn an_answer_of_the_application_is_never_replaced_by_another_attempt() {
    run(async {
        let reached = Rc::new(Cell::new(0));
        let count = reached.clone();
        let overloaded = http1_server(move |_| {
            count.set(count.get() + 1);
            async { Response::builder().status(503).body(full("later")).unwrap() }
        })
        .await;
        let (proxy, _inbound) = chain(overloaded, Protocol::Http1);
        let answer = exchange(proxy.address, POST).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("later"), "{answer}");
        assert_eq!(reached.get(), 1);
    });
}

#[test]
fn an_endpoint_that_fails_fast_does_not_draw_requests_to_itself() {
    run(async {
        let failing = http1_server(|_| async { Response::builder().status(503).body(full("")).unwrap() }).await;
        let slow = http1_server(|_| async {
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
            Response::new(full("ok"))
        })
        .await;
        let proxy = OutboundProxy::balancing(Protocol::Http1, &[endpoint(failing, false), endpoint(slow, false)]);
        for _ in 0..50 {
            exchange(proxy.address, "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").await;
        }
        let failed = sum(&proxy.metrics, "route_response_total", &["classification=\"failure\""]);
        assert!(failed <= 2.0, "{failed} of 50");
    });
}

#[test]
fn a_service_without_endpoints_is_answered_at_once_in_the_protocol_of_the_request() {
    run(async {
        let proxy = OutboundProxy::balancing(Protocol::Detect, &[]);
        let answer = exchange(proxy.address, POST).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("conduit-error: no-endpoints; object=service/shop/web\r\n"), "{answer}");

        let mut client = http2_client(proxy.address).await;
        let request = Request::post("http://web/a.B/C")
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .body(full(Bytes::new()))
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &"14".parse().unwrap()));
        let labels = ["status_code=\"503\"", "classification=\"failure\"", "error=\"no-endpoints\""];
        assert_eq!(sum(&proxy.metrics, "route_response_total", &labels), 1.0);
        assert_eq!(sum(&proxy.metrics, "request_total", &[]), 0.0, "no endpoint was asked");
    });
}

#[test]
fn an_endpoint_that_closes_idle_connections_fails_no_request() {
    run(async {
        // Each connection takes one request, and is closed at once although it was to be kept.
        let application = server(|mut stream, _| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        for _ in 0..20 {
            let answer = ask(&mut client, "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 0\r\n\r\n", "ok").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
    });
}

#[test]
fn a_request_that_meets_the_end_of_an_idle_connection_is_sent_on_another() {
    run(async {
        // Each connection takes one request, and is closed at the moment at which the next one comes.
        let (coming, comes) = tokio::sync::watch::channel(0);
        let application = server(move |mut stream, number| {
            let mut comes = comes.clone();
            async move {
                let request = read_until(&mut stream, "hello").await;
                assert!(request.starts_with("POST "), "{request}");
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                comes.wait_for(|coming| *coming > number).await.unwrap();
            }
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        for number in 0..50 {
            let request = "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\n\r\nhello";
            // How far the end gets before the request differs from one to the next.
            coming.send_replace(number);
            for _ in 0..number % 10 {
                tokio::task::yield_now().await;
            }
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = read_until(&mut client, "ok").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        assert_eq!(sum(&inbound.metrics, "tcp_open_total", &["peer=\"dst\""]), 50.0);
    });
}

#[test]
fn endpoints_that_come_and_go_fail_no_request() {
    run(async {
        let all = [echo().await, echo().await, echo().await, echo().await];
        let endpoints = all.map(|address| endpoint(address, false));
        let proxy = OutboundProxy::balancing(Protocol::Http1, &endpoints);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        for i in 0..200 {
            let gone = endpoints[i % 4].clone();
            let dead = endpoint(refusing().await, false);
            proxy.destination.apply_endpoints(EndpointUpdate::Change {
                add: vec![dead.clone(), endpoints[(i + 3) % 4].clone()],
                remove: vec![gone.address],
            });
            let answer =
                ask(&mut client, "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\n\r\nhello", "hello").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            proxy.destination.apply_endpoints(EndpointUpdate::Change { add: vec![], remove: vec![dead.address] });
        }
        assert_eq!(sum(&proxy.metrics, "route_response_total", &["classification=\"success\""]), 200.0);
    });
}
