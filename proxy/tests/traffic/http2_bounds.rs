//! What a client of HTTP/2 can make a proxy do, or hold, has bounds; and while it tries, others are served.

use crate::{frames::*, support::*};
use bytes::Bytes;
use conduit_model::Protocol;
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, StreamBody};
use std::{
    cell::Cell,
    convert::Infallible,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

fn request(path: &str) -> Request<Body> {
    Request::get(format!("http://web{path}")).version(Version::HTTP_2).body(full("")).unwrap()
}

/// The proxies that a client may meet, in front of the same application.
async fn proxies() -> [(&'static str, SocketAddr, Box<dyn std::any::Any>); 2] {
    let application = http2_server(1000, |_, _| async { Response::new(full("ok")) }).await;
    let outbound = OutboundProxy::balancing(Protocol::Http2, &[endpoint(application, false)]);
    let inbound = InboundProxy::before(application, Protocol::Http2);
    [("outbound", outbound.address, Box::new(outbound)), ("inbound", inbound.address, Box::new(inbound))]
}

/// Another client is served.
async fn serves(address: SocketAddr) {
    let answer = http2_client(address).await.send_request(request("/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[test]
fn a_client_that_resets_what_it_has_just_opened_is_sent_away() {
    run(async {
        for (which, address, _held) in proxies().await {
            let mut raw = Raw::connect(address, &[]).await;
            let pair = |stream| {
                let head = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/", &[]));
                [head, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
            };
            raw.send(&(0..1000).flat_map(|i| pair(2 * i + 1)).collect::<Vec<_>>()).await;
            assert_eq!(raw.end().await, ENHANCE_YOUR_CALM, "{which}");
            serves(address).await;
        }
    });
}

#[test]
fn a_client_that_gives_up_most_of_its_requests_is_sent_away() {
    run(async {
        let reached = Rc::new(Cell::new(0));
        let count = reached.clone();
        let application = http2_server(1000, move |_, _| {
            count.set(count.get() + 1);
            std::future::pending()
        })
        .await;
        let proxy = InboundProxy::before(application, Protocol::Http2);
        let mut raw = Raw::connect(proxy.address, &[]).await;
        for i in 0..=500 {
            let stream = 2 * i + 1;
            raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/", &[]))).await;
            while reached.get() <= i {
                tokio::task::yield_now().await;
            }
            raw.send(&frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())).await;
        }
        assert_eq!(raw.end().await, ENHANCE_YOUR_CALM);
    });
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    run(async {
        for (which, address, _held) in proxies().await {
            let mut raw = Raw::connect(address, &[]).await;
            raw.send(&frame(HEADERS, END_STREAM, 1, &get("/", &[]))).await;
            let more = frame(CONTINUATION, 0, 1, &block(&[("a", "b")]));
            raw.send(&more.repeat(10_000)).await;
            assert_eq!(raw.end().await, ENHANCE_YOUR_CALM, "{which}");
            serves(address).await;
        }
    });
}

#[test]
fn a_head_that_is_too_large_is_answered_so_and_the_connection_goes_on() {
    run(async {
        for (_, address, _held) in proxies().await {
            let mut client = http2_client(address).await;
            let mut large = request("/");
            for i in 0..70 {
                large
                    .headers_mut()
                    .insert(format!("x-{i}").parse::<http::HeaderName>().unwrap(), "a".repeat(1024).parse().unwrap());
            }
            let answer = client.send_request(large).await.unwrap();
            assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
            assert_eq!(client.send_request(request("/")).await.unwrap().status(), StatusCode::OK);
        }
    });
}

#[test]
fn a_client_that_asks_and_does_not_hear_the_answers_is_not_read_any_further() {
    run(async {
        for (_, address, _held) in proxies().await {
            for flood in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
                let mut raw = Raw::connect(address, &[]).await;
                raw.flood(&flood.repeat(1000)).await;
                serves(address).await;
            }
        }
    });
}

#[test]
fn a_client_that_opens_its_window_without_end_is_sent_away_when_it_is_too_wide() {
    run(async {
        for (which, address, _held) in proxies().await {
            let mut raw = Raw::connect(address, &[]).await;
            // What is small holds nothing.
            raw.send(&frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()).repeat(100_000)).await;
            serves(address).await;
            raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/", &[]))).await;
            assert_eq!(raw.next_of(HEADERS).await.stream, 1, "{which}");
            raw.send(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())).await;
            assert_eq!(raw.end().await, FLOW_CONTROL_ERROR, "{which}");
            serves(address).await;
        }
    });
}

#[test]
fn a_client_that_sends_frames_without_data_is_sent_away() {
    run(async {
        for (which, address, _held) in proxies().await {
            let mut raw = Raw::connect(address, &[]).await;
            raw.send(&frame(HEADERS, END_HEADERS, 1, &get("/", &[]))).await;
            raw.send(&frame(DATA, 0, 1, &[]).repeat(10_000)).await;
            assert_eq!(raw.end().await, ENHANCE_YOUR_CALM, "{which}");
            serves(address).await;
        }
    });
}

#[test]
fn clients_that_take_no_byte_of_many_answers_do_not_stop_another_and_hold_no_more_than_the_windows() {
    const BLOCK: usize = 16 * 1024;
    run(async {
        let produced = Arc::new(AtomicUsize::new(0));
        let count = produced.clone();
        let application = http2_server(1000, move |request: Request<_>, _| {
            let (count, large) = (count.clone(), request.uri().path() == "/large");
            async move {
                let blocks = stream::repeat(Bytes::from_static(&[0; BLOCK])).take(if large { 1024 } else { 1 });
                let frames = blocks.map(move |block| {
                    count.fetch_add(block.len(), Ordering::Relaxed);
                    Ok::<_, Infallible>(http_body::Frame::data(block))
                });
                Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)))
            }
        })
        .await;
        let proxy = OutboundProxy::balancing(Protocol::Http2, &[endpoint(application, false)]);
        // SETTINGS_INITIAL_WINDOW_SIZE
        let mut raw = Raw::connect(proxy.address, &[0, 4, 0, 0, 0, 0]).await;
        let head = |i: u32| frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, &get("/large", &[]));
        raw.send(&(0..200).flat_map(head).collect::<Vec<_>>()).await;
        for _ in 0..200 {
            raw.next_of(HEADERS).await;
        }
        let mut client = http2_client(proxy.address).await;
        let body = client.send_request(request("/small")).await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), BLOCK);
        let most = 200 * 2 * 256 * 1024;
        let produced = produced.load(Ordering::Relaxed);
        assert!(produced < most, "{produced} bytes are on their way to nobody");
    });
}

#[test]
fn the_more_answers_nobody_takes_the_less_is_held_of_each() {
    const ANSWERS: u32 = 400;
    const SIZE: usize = 256 * 1024;
    run(async {
        let sent = Rc::new(Cell::new(0));
        let count = sent.clone();
        // It counts what windows let it send, and nothing that waits for them.
        let application = server(move |stream, _| {
            let count = count.clone();
            async move {
                let mut connection =
                    h2::server::Builder::new().max_concurrent_streams(1000).handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let count = count.clone();
                    let mut body: h2::SendStream<Bytes> = respond.send_response(Response::new(()), false).unwrap();
                    tokio::task::spawn_local(async move {
                        body.reserve_capacity(SIZE);
                        let mut left = SIZE;
                        while let Some(Ok(room)) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await {
                            let room = room.min(left);
                            count.set(count.get() + room);
                            left -= room;
                            body.send_data(vec![0; room].into(), left == 0).unwrap();
                        }
                    });
                }
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http2);
        // SETTINGS_INITIAL_WINDOW_SIZE
        let mut raw = Raw::connect(outbound.address, &[0, 4, 0, 0, 0, 0]).await;
        for i in 0..ANSWERS {
            raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, &get("/", &[]))).await;
            raw.next_of(HEADERS).await;
        }
        let all = ANSWERS as usize * SIZE;
        // Both proxies hold something of each.
        assert!(sent.get() < all / 2, "{} of {all} bytes are on their way to nobody", sent.get());
        // Once nobody waits any more, whole windows are given again.
        drop(raw);
        wait_for(&outbound.metrics, "response_total", &["error=\"canceled\""], f64::from(ANSWERS)).await;
        sent.set(0);
        let mut client = http2_client(outbound.address).await;
        let body = client.send_request(request("/")).await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), SIZE);
    });
}

#[test]
fn a_connection_on_which_nothing_can_be_understood_is_closed_in_words() {
    run(async {
        for (which, address, _held) in proxies().await {
            let mut raw = Raw::connect(address, &[]).await;
            raw.send(&[frame(DATA, 0, 0, b"on no stream"), vec![0; 100_000]].concat()).await;
            assert_eq!(raw.end().await, PROTOCOL_ERROR, "{which}");
        }
    });
}
