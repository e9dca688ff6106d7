//! The end of a pod and of its proxy.

use crate::support::*;
use conduit_model::{Inbound, Protocol};
use http::{Request, Response, Version};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const GET: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";

fn terminate(proxy: &InboundProxy) {
    proxy.own.apply(Arc::new(Inbound { terminating: true, ..proxy.inbound.clone() }));
}

#[test]
fn a_pod_that_is_told_to_stop_asks_http1_clients_to_go_elsewhere_and_serves_on() {
    run(async {
        let application = http1_server(|_| async { Response::new(full("ok")) }).await;
        let proxy = InboundProxy::before(application, Protocol::Http1);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let before = ask(&mut client, GET, "ok").await;
        assert!(!before.contains("connection: close"), "{before}");
        terminate(&proxy);
        let after = exchange_on(&mut client).await;
        assert!(after.contains("connection: close\r\n"), "{after}");
        let mut new = TcpStream::connect(proxy.address).await.unwrap();
        let served = exchange_on(&mut new).await;
        assert!(served.starts_with("HTTP/1.1 200 OK\r\n") && served.contains("connection: close\r\n"), "{served}");
    });
}

async fn exchange_on(client: &mut TcpStream) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn a_pod_that_is_told_to_stop_sends_goaway_and_finishes_what_it_has() {
    run(async {
        let application = http2_server(100, |_, _| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Response::new(full("ok"))
        })
        .await;
        let proxy = InboundProxy::before(application, Protocol::Http2);
        let mut client = http2_client(proxy.address).await;
        let request = || Request::get("http://web/").version(Version::HTTP_2).body(full("")).unwrap();
        let open = client.send_request(request());
        let stop = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            terminate(&proxy);
        };
        let (answered, ()) = tokio::join!(open, stop);
        assert_eq!(answered.unwrap().status(), 200);
        for _ in 0..100 {
            if client.is_closed() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the connection is not closed");
    });
}

#[test]
fn requests_through_both_proxies_survive_the_end_of_a_pod() {
    run(async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let answer = |_| async { Response::new(full("ok")) };
            let application = match protocol {
                Protocol::Http1 => http1_server(answer).await,
                _ => http2_server(100, move |request, _| answer(request)).await,
            };
            let old = InboundProxy::before(application, protocol);
            let new = old.beside(application, protocol);
            let endpoints = [endpoint(old.address, true), endpoint(new.address, true)];
            let outbound = OutboundProxy::meshed(protocol, &endpoints, old.authority.identity("client"));
            let mut http2 = http2_client(outbound.address).await;
            let mut http1 = TcpStream::connect(outbound.address).await.unwrap();
            for i in 0..100 {
                if i == 30 {
                    terminate(&old);
                }
                if i == 60 {
                    old.drain.drain();
                }
                match protocol {
                    Protocol::Http1 => drop(ask(&mut http1, GET, "ok").await),
                    _ => {
                        let request = Request::get("http://web/").version(Version::HTTP_2).body(full("")).unwrap();
                        assert_eq!(http2.send_request(request).await.unwrap().status(), 200);
                    }
                }
            }
            wait_for(&outbound.metrics, "route_response_total", &["classification=\"success\""], 100.0).await;
        }
    });
}

#[test]
fn a_request_on_its_way_to_a_proxy_that_drains_is_answered_and_is_the_last_of_its_connection() {
    run(async {
        let application = http1_server(|_| async { Response::new(full("ok")) }).await;
        let proxy = InboundProxy::before(application, Protocol::Http1);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        ask(&mut client, GET, "ok").await;
        proxy.drain.drain();
        // It has seen that it drains once it no longer keeps a silent connection.
        let mut silent = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        let mut answer = String::new();
        client.write_all(GET.as_bytes()).await.unwrap();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        proxy.served.await.unwrap().unwrap();
    });
}

#[test]
fn a_proxy_that_drains_ends_when_nothing_is_open() {
    run(async {
        let application = http1_server(|_| async { Response::new(full("ok")) }).await;
        let proxy = InboundProxy::before(application, Protocol::Http1);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let mut opaque = TcpStream::connect(proxy.address).await.unwrap();
        ask(&mut client, GET, "ok").await;
        ask(&mut opaque, GET, "ok").await;
        let _silent = TcpStream::connect(proxy.address).await.unwrap();
        proxy.drain.drain();
        tokio::time::timeout(Duration::from_secs(5), proxy.served).await.unwrap().unwrap().unwrap();
    });
}

#[test]
fn a_proxy_that_drains_waits_for_open_connections() {
    run(async {
        let application = server(|mut stream, _| async move {
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        })
        .await;
        let mut proxy = InboundProxy::before(application, Protocol::Opaque);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        ask(&mut client, "a", "a").await;
        proxy.drain.drain();
        tokio::time::timeout(Duration::from_millis(50), &mut proxy.served).await.unwrap_err();
        assert_eq!(ask(&mut client, "b", "b").await, "b", "what is open goes on");
        drop(client);
        proxy.served.await.unwrap().unwrap();
    });
}
