//! Messages of HTTP/2 (RFC 9113 section 8) through both proxies: what passes passes as it is, and what may not is refused.

use crate::{frames::*, support::*};
use bytes::Bytes;
use conduit_model::Protocol;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use std::{cell::RefCell, rc::Rc};
use tokio::sync::{Notify, oneshot};

fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://web{path}")).version(Version::HTTP_2)
}

#[test]
fn an_answer_without_a_body_keeps_the_length_that_it_speaks_of() {
    run(async {
        let application = http2_server(100, |request, _| async move {
            let status = request.uri().path()[1..].parse::<u16>().unwrap();
            Response::builder().status(status).header("content-length", "1024").body(full("")).unwrap()
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Http2);
        let mut client = http2_client(outbound.address).await;
        for (method, path, status) in
            [(Method::HEAD, "/200", StatusCode::OK), (Method::GET, "/304", StatusCode::NOT_MODIFIED)]
        {
            let answer = client.send_request(request(method, path).body(full("")).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers()["content-length"], "1024");
            assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
        }
        wait_for(&inbound.metrics, "response_total", &["classification=\"success\""], 2.0).await;
    });
}

#[test]
fn an_answer_without_content_ends_with_its_head() {
    run(async {
        let application =
            http2_server(100, |_, _| async { Response::builder().status(204).body(full("")).unwrap() }).await;
        let (outbound, _inbound) = chain(application, Protocol::Http2);
        let mut raw = Raw::connect(outbound.address, &[]).await;
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/", &[]))).await;
        let head = raw.next_of(HEADERS).await;
        assert_eq!(head.flags & END_STREAM, END_STREAM);
    });
}

#[test]
fn an_answer_that_is_trailers_only_stays_so() {
    run(async {
        let application = http2_server(100, |_, _| async {
            let answer = Response::builder().header("content-type", "application/grpc").header("grpc-status", "5");
            answer.header("grpc-message", "no%20such%20book").body(full("")).unwrap()
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Grpc);
        let mut raw = Raw::connect(outbound.address, &[]).await;
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/", &[("content-type", "application/grpc")])))
            .await;
        let head = raw.next_of(HEADERS).await;
        assert_eq!(head.flags & END_STREAM, END_STREAM);
        let labels = ["grpc_status=\"5\"", "classification=\"success\""];
        wait_for(&outbound.metrics, "response_total", &labels, 1.0).await;
    });
}

#[test]
fn trailers_of_a_request_arrive_and_so_do_all_pieces_of_a_cookie() {
    run(async {
        let application = http2_server(100, |request, _| async move {
            let cookies: Vec<_> = request.headers().get_all("cookie").iter().cloned().collect();
            let te = request.headers()["te"].clone();
            let trailers = request.into_body().collect().await.unwrap().trailers().cloned().unwrap();
            Response::new(full(format!("{cookies:?} {te:?} {:?}", trailers["x-sum"])))
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http2);
        let mut client = http2_client(outbound.address).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        let body = full("abc").with_trailers(async { Some(Ok(trailers)) }).boxed_unsync();
        let request =
            request(Method::POST, "/").header("cookie", "a=1").header("cookie", "b=2").header("te", "trailers");
        let answer = client.send_request(request.body(body).unwrap()).await.unwrap();
        let answer = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(answer, Bytes::from_static(br#"["a=1", "b=2"] "trailers" "42""#));
    });
}

#[test]
fn what_concerns_a_connection_or_is_no_field_is_refused_and_reaches_nobody() {
    run(async {
        let reached = Rc::new(RefCell::new(Vec::new()));
        let seen = reached.clone();
        let application = http2_server(100, move |request, _| {
            seen.borrow_mut().push(request.uri().path().to_owned());
            async { Response::new(full("")) }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http2);
        let mut raw = Raw::connect(outbound.address, &[]).await;
        let wrong = [
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
        ];
        for (i, field) in wrong.into_iter().enumerate() {
            let stream = 2 * i as u32 + 1;
            raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/wrong", &[field]))).await;
            let reset = raw.next_of(RST_STREAM).await;
            assert_eq!((reset.stream, reset.code()), (stream, PROTOCOL_ERROR), "{field:?}");
        }
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 101, &get("/right", &[("te", "trailers")]))).await;
        assert_eq!(raw.next_of(HEADERS).await.stream, 101);
        for field in [("X-Upper", "1"), (":path", "/again"), (":late", "1")] {
            let mut raw = Raw::connect(outbound.address, &[]).await;
            raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/wrong", &[field]))).await;
            loop {
                let frame = raw.next().await.unwrap();
                if [RST_STREAM, GOAWAY].contains(&frame.kind) {
                    assert_eq!(frame.code(), PROTOCOL_ERROR, "{field:?}");
                    break;
                }
            }
        }
        assert_eq!(*reached.borrow(), ["/right"]);
    });
}

#[test]
fn a_body_of_another_length_than_its_head_says_is_refused() {
    run(async {
        let application = http2_server(100, |request, _| async {
            let whole = request.into_body().collect().await.is_ok();
            Response::new(full(format!("{whole}")))
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Http2);
        for body in ["abc", "abcdef"] {
            let mut raw = Raw::connect(outbound.address, &[]).await;
            raw.send(&frame(HEADERS, END_HEADERS, 1, &get("/", &[("content-length", "5")]))).await;
            raw.send(&frame(DATA, END_STREAM, 1, body.as_bytes())).await;
            assert_eq!(raw.next_of(RST_STREAM).await.code(), PROTOCOL_ERROR, "{body}");
        }
        wait_for(&inbound.metrics, "response_total", &["classification=\"success\""], 0.0).await;
    });
}

#[test]
fn priorities_are_ignored() {
    run(async {
        let application = http2_server(100, |_, _| async { Response::new(full("")) }).await;
        let (outbound, _inbound) = chain(application, Protocol::Http2);
        let mut raw = Raw::connect(outbound.address, &[]).await;
        let after = |stream: u32| [&stream.to_be_bytes()[..], &[255]].concat();
        raw.send(&frame(PRIORITY, 0, 9, &after(7))).await;
        let head = [after(3), get("/", &[("priority", "u=0, i")])].concat();
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS | PRIORITIZED, 11, &head)).await;
        assert_eq!(raw.next_of(HEADERS).await.stream, 11);
    });
}

#[test]
fn a_reset_of_the_client_reaches_the_application_with_its_code() {
    run(async {
        let (tx, rx) = oneshot::channel();
        let tx = Rc::new(RefCell::new(Some(tx)));
        let arrived = Rc::new(Notify::new());
        let seen = arrived.clone();
        let application = server(move |stream, _| {
            let (tx, seen) = (tx.clone(), seen.clone());
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, _respond))) = connection.accept().await {
                    let (tx, seen) = (tx.borrow_mut().take().unwrap(), seen.clone());
                    tokio::task::spawn_local(async move {
                        let mut body = request.into_body();
                        let reason = loop {
                            match body.data().await {
                                Some(Ok(_)) => seen.notify_one(),
                                Some(Err(error)) => break error.reason(),
                                None => break None,
                            }
                        };
                        tx.send(reason).unwrap();
                    });
                }
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http2);
        let mut raw = Raw::connect(outbound.address, &[]).await;
        raw.send(&frame(HEADERS, END_HEADERS, 1, &get("/", &[]))).await;
        raw.send(&frame(DATA, 0, 1, b"some")).await;
        arrived.notified().await;
        raw.send(&frame(RST_STREAM, 0, 1, &ENHANCE_YOUR_CALM.to_be_bytes())).await;
        assert_eq!(rx.await.unwrap(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    });
}

#[test]
fn what_an_application_has_begun_when_it_goes_away_is_finished_and_the_next_goes_elsewhere() {
    run(async {
        let application = server(|stream, number| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                if number == 0 {
                    connection.graceful_shutdown();
                }
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    body.send_data(format!("{number}").into(), true).unwrap();
                });
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http2);
        let mut client = http2_client(outbound.address).await;
        for number in ["0", "1", "1"] {
            let answer = client.send_request(request(Method::GET, "/").body(full("")).unwrap()).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), number);
        }
    });
}
