//! HTTP/2 and gRPC.

use crate::support::*;
use bytes::Bytes;
use conduit_model::Protocol;
use futures::{StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use std::{
    cell::Cell,
    convert::Infallible,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://web{path}")).version(Version::HTTP_2).body(full("")).unwrap()
}

fn grpc(body: Body) -> Request<Body> {
    Request::post("http://web/shop.Books/List")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

fn trailers(status: &str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    Frame::trailers(trailers)
}

/// A body that is sent as it is made.
fn channel() -> (mpsc::UnboundedSender<Frame<Bytes>>, Body) {
    let (tx, rx) = mpsc::unbounded_channel();
    let frames = UnboundedReceiverStream::new(rx).map(Ok::<_, Infallible>);
    (tx, BodyExt::boxed_unsync(StreamBody::new(frames)))
}

async fn next(body: &mut Incoming) -> Bytes {
    body.frame().await.unwrap().unwrap().into_data().unwrap()
}

#[test]
fn many_requests_at_once_share_one_connection() {
    run(async {
        let application = http2_server(1000, |request, _| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Response::new(full(format!("{} {}", request.uri().path(), request.uri().authority().unwrap())))
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Detect);
        let client = http2_client(outbound.address).await;
        let answers = (0..50).map(|i| {
            let mut client = client.clone();
            async move {
                let response = client.send_request(get(&format!("/{i}"))).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                response.into_body().collect().await.unwrap().to_bytes()
            }
        });
        let answers = futures::future::join_all(answers).await;
        assert!(answers.iter().enumerate().all(|(i, answer)| answer == format!("/{i} web").as_bytes()));
        for metrics in [&outbound.metrics, &inbound.metrics] {
            wait_for(metrics, "response_total", &["status_code=\"200\""], 50.0).await;
            assert_eq!(sum(metrics, "tcp_open_total", &["peer=\"dst\""]), 1.0);
        }
    });
}

#[test]
fn a_server_that_takes_few_streams_gets_more_connections() {
    run(async {
        let application = http2_server(2, |_, _| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Response::new(full("ok"))
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Http2);
        let mut client = http2_client(outbound.address).await;
        // The first connection is open and its limit known before the others are needed.
        client.send_request(get("/")).await.unwrap().into_body().collect().await.unwrap();
        let answers = (0..8).map(|_| client.clone().send_request(get("/"))).collect::<Vec<_>>();
        for answer in futures::future::join_all(answers).await {
            assert_eq!(answer.unwrap().status(), StatusCode::OK);
        }
        assert_eq!(sum(&outbound.metrics, "tcp_open_total", &["peer=\"dst\""]), 1.0);
        let connections = sum(&inbound.metrics, "tcp_open_total", &["peer=\"dst\""]);
        assert!((2.0..=4.0).contains(&connections), "{connections}");
    });
}

#[test]
fn a_server_that_takes_few_streams_and_has_not_answered_yet_gets_more_connections_too() {
    run(async {
        let reached = Rc::new(Cell::new(0));
        let count = reached.clone();
        let application = http2_server(2, move |_, _| {
            count.set(count.get() + 1);
            std::future::pending()
        })
        .await;
        let proxy = OutboundProxy::balancing(Protocol::Http2, &[endpoint(application, false)]);
        let client = http2_client(proxy.address).await;
        let mut waiting = Vec::new();
        for expected in 1..=6 {
            let mut client = client.clone();
            waiting.push(tokio::task::spawn_local(async move { client.send_request(get("/")).await }));
            while reached.get() < expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // The server's settings come with its connection, and are not waited for.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(sum(&proxy.metrics, "tcp_open_total", &["peer=\"dst\""]), 3.0);
    });
}

#[test]
fn clients_that_do_not_read_do_not_stop_another() {
    run(async {
        let application = http2_server(100, |request, _| async move {
            let blocks = if request.uri().path() == "/large" { 1024 } else { 1 };
            let blocks = stream::repeat(Bytes::from_static(&[0; 16_384])).take(blocks);
            let frames = blocks.map(|block| Ok::<_, Infallible>(Frame::data(block)));
            Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)))
        })
        .await;
        let proxy = OutboundProxy::balancing(Protocol::Http2, &[endpoint(application, false)]);
        let mut stalled = Vec::new();
        for _ in 0..5 {
            let mut client = http2_client(proxy.address).await;
            stalled.push((client.send_request(get("/large")).await.unwrap(), client));
        }
        // As much as ever will is on its way to those who do not read.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut client = http2_client(proxy.address).await;
        let body = client.send_request(get("/small")).await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 16_384);
        assert_eq!(sum(&proxy.metrics, "tcp_open_total", &["peer=\"dst\""]), 1.0, "all share a connection");
    });
}

#[test]
fn messages_of_both_directions_pass_as_they_come_and_the_status_ends_them() {
    run(async {
        let application = http2_server(100, |request: Request<Incoming>, _| async {
            let (tx, answer) = channel();
            tokio::task::spawn_local(async move {
                let mut question = request.into_body();
                while let Some(Ok(frame)) = question.frame().await {
                    if let Ok(data) = frame.into_data() {
                        let _ = tx.send(Frame::data([b"re:", &data[..]].concat().into()));
                    }
                }
                let _ = tx.send(trailers("0"));
            });
            let mut response = Response::new(answer);
            response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            response
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Grpc);
        let mut client = http2_client(outbound.address).await;
        let (tx, question) = channel();
        let response = client.send_request(grpc(question)).await.unwrap();
        let mut answer = response.into_body();
        for message in ["one", "two", "three"] {
            tx.send(Frame::data(message.into())).unwrap();
            assert_eq!(next(&mut answer).await, format!("re:{message}"));
        }
        drop(tx);
        let end = answer.collect().await.unwrap();
        assert_eq!(end.trailers().unwrap()["grpc-status"], "0");
        for metrics in [&outbound.metrics, &inbound.metrics] {
            let labels = ["grpc_status=\"0\"", "classification=\"success\"", "status_code=\"200\""];
            wait_for(metrics, "response_total", &labels, 1.0).await;
            assert_eq!(sum(metrics, "route_response_total", &["rt_route=\"[DEFAULT]\""]), 1.0);
        }
    });
}

#[test]
fn a_failing_status_in_the_trailers_counts_as_a_failure() {
    run(async {
        let application = http2_server(100, |_, _| async {
            let frames = [Frame::data(Bytes::from("x")), trailers("14")].map(Ok::<_, Infallible>);
            let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(stream::iter(frames))));
            response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            response
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Grpc);
        let mut client = http2_client(outbound.address).await;
        let response = client.send_request(grpc(full(""))).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().trailers().unwrap()["grpc-status"], "14");
        let labels = ["grpc_status=\"14\"", "classification=\"failure\""];
        wait_for(&outbound.metrics, "response_total", &labels, 1.0).await;
    });
}

#[test]
fn a_client_that_cancels_is_noticed_by_the_server() {
    run(async {
        let ended = Rc::new(Cell::new(false));
        let seen = ended.clone();
        let application = http2_server(100, move |_, _| {
            let seen = seen.clone();
            async move {
                let (tx, answer) = channel();
                tx.send(Frame::data("first".into())).unwrap();
                tokio::task::spawn_local(async move {
                    tx.closed().await;
                    seen.set(true);
                });
                let mut response = Response::new(answer);
                response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                response
            }
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Grpc);
        let mut client = http2_client(outbound.address).await;
        let mut answer = client.send_request(grpc(full(""))).await.unwrap().into_body();
        assert_eq!(next(&mut answer).await, "first");
        drop(answer);
        for metrics in [&outbound.metrics, &inbound.metrics] {
            let labels = ["error=\"canceled\"", "grpc_status=\"1\"", "classification=\"success\""];
            wait_for(metrics, "response_total", &labels, 1.0).await;
        }
        while !ended.get() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_reset_of_the_server_reaches_the_client_with_its_code() {
    run(async {
        let application = server(|stream, _| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data("partial".into(), false).unwrap();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    body.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
                });
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http2);
        let mut client = http2_client(outbound.address).await;
        let mut body = client.send_request(get("/")).await.unwrap().into_body();
        assert_eq!(next(&mut body).await, "partial");
        let error = body.frame().await.unwrap().unwrap_err();
        let reason = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<h2::Error>()?.reason());
        assert_eq!(reason, Some(h2::Reason::ENHANCE_YOUR_CALM), "{error:?}");
        let labels = ["classification=\"failure\"", "error=\"response-broken\""];
        wait_for(&outbound.metrics, "response_total", &labels, 1.0).await;
    });
}

#[test]
fn a_writer_is_slowed_by_its_reader() {
    run(async {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        let application = http2_server(100, move |_, _| {
            let count = count.clone();
            async move {
                let blocks = stream::repeat(Bytes::from_static(&[0; 16_384])).take(4096).map(move |block| {
                    count.fetch_add(block.len(), Ordering::Relaxed);
                    Ok::<_, Infallible>(Frame::data(block))
                });
                Response::new(BodyExt::boxed_unsync(StreamBody::new(blocks)))
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http2);
        let mut client = http2_client(outbound.address).await;
        let body = client.send_request(get("/")).await.unwrap().into_body();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < 8 * 1024 * 1024, "{sent} bytes are on their way to nobody");
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 4096 * 16_384);
    });
}

#[test]
fn an_http1_client_of_a_port_that_declares_http2_is_served_as_such() {
    run(async {
        let application = http1_server(|_| async { Response::new(full("one")) }).await;
        let (outbound, _inbound) = chain(application, Protocol::Grpc);
        let request = "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
        assert!(exchange(outbound.address, request).await.ends_with("\r\n\r\none"));
    });
}
