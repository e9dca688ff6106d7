//! HTTP/1 answers that come before their requests have ended, requests that come before the answer to the one before them,
//! and connections that end with an answer on its way: neither direction may hold up the other, or take anything from it.

use crate::support::*;
use conduit_model::Protocol;
use std::{cell::RefCell, future::pending, net::SocketAddr, rc::Rc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink},
    net::TcpStream,
    sync::{Notify, mpsc},
    time::timeout,
};

/// More than the buffers of all connections on the way hold.
const MUCH: usize = 32 * 1024 * 1024;

const GET: &str = "GET / HTTP/1.1\r\nHost: web\r\n\r\n";

fn post(length: usize, more: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: {length}\r\n{more}\r\n")
}

/// Reads a head, and nothing of what comes after it.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A server that reads a head, answers with `answer`, and from then on neither reads nor closes.
async fn answers_and_reads_no_more(answer: &'static str) -> SocketAddr {
    server(move |mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        pending::<()>().await;
    })
    .await
}

/// Waits until the proxy has no connection to the application.
async fn none_to_the_application(inbound: &InboundProxy) {
    wait_for(&inbound.metrics, "tcp_open_connections", &["peer=\"dst\""], 0.0).await;
}

#[test]
fn an_answer_that_its_client_does_not_read_does_not_hold_up_its_request() {
    run(async {
        let (told, mut read) = mpsc::unbounded_channel();
        let application = server(move |mut stream, _| {
            let told = told.clone();
            async move {
                read_head(&mut stream).await;
                let (reading, mut writing) = stream.into_split();
                let writes = async {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n");
                    writing.write_all(head.as_bytes()).await.unwrap();
                    writing.write_all(&vec![b'a'; MUCH]).await.unwrap();
                };
                let reads = async {
                    copy(&mut reading.take(MUCH as u64), &mut sink()).await.unwrap();
                    told.send(()).unwrap();
                };
                tokio::join!(writes, reads);
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        client.write_all(post(MUCH, "").as_bytes()).await.unwrap();
        client.write_all(&vec![b'b'; MUCH]).await.unwrap();
        read.recv().await.unwrap();
        read_head(&mut client).await;
        assert_eq!(copy(&mut client.take(MUCH as u64), &mut sink()).await.unwrap(), MUCH as u64);
    });
}

#[test]
fn what_is_left_of_an_answered_request_passes_where_the_connection_is_to_be_closed_too() {
    run(async {
        for (of_client, of_server) in [("Connection: close\r\n", ""), ("", "Connection: close\r\n")] {
            let (told, mut bodies) = mpsc::unbounded_channel();
            let application = server(move |mut stream, _| {
                let told = told.clone();
                async move {
                    read_head(&mut stream).await;
                    let answer = format!("HTTP/1.1 200 OK\r\n{of_server}Content-Length: 2\r\n\r\nok");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    told.send(read_until(&mut stream, "end").await).unwrap();
                }
            })
            .await;
            let (outbound, _inbound) = chain(application, Protocol::Http1);
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            assert!(ask(&mut client, &post(10, of_client), "ok").await.starts_with("HTTP/1.1 200 "));
            client.write_all(b"to the end").await.unwrap();
            assert_eq!(bodies.recv().await.unwrap(), "to the end", "{of_client}{of_server}");
        }
    });
}

#[test]
fn a_client_that_sends_all_before_it_reads_still_has_the_answer_of_a_server_that_wants_no_more() {
    const REFUSED: &str = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    run(async {
        for of_client in ["", "Connection: close\r\n"] {
            let application = answers_and_reads_no_more(REFUSED).await;
            let (outbound, inbound) = chain(application, Protocol::Http1);
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            client.write_all(post(MUCH, of_client).as_bytes()).await.unwrap();
            client.write_all(&vec![b'a'; MUCH]).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("no"), "{answer}");
            none_to_the_application(&inbound).await;
        }
    });
}

#[test]
fn a_request_that_nobody_reads_or_writes_once_it_is_answered_holds_no_connection() {
    run_within(Duration::from_secs(120), async {
        for sent in [0, MUCH] {
            let application = answers_and_reads_no_more("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            let (outbound, inbound) = chain(application, Protocol::Http1);
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            assert!(ask(&mut client, &post(2 * MUCH, ""), "ok").await.starts_with("HTTP/1.1 200 "));
            tokio::time::pause();
            let body = vec![b'a'; sent];
            let (reading, mut writing) = client.split();
            // Whether all of it goes is not said.
            let _ = tokio::join!(writing.write_all(&body), async {
                assert_eq!(reading.take(1).read_to_end(&mut Vec::new()).await.unwrap_or(0), 0, "no other answer");
            });
            none_to_the_application(&inbound).await;
            tokio::time::resume();
        }
    });
}

#[test]
fn a_request_that_nobody_wants_is_thrown_away_if_it_is_short_and_answered_with_the_end_of_the_connection_if_not() {
    run(async {
        let outbound = OutboundProxy::balancing(Protocol::Http1, &[]);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        for _ in 0..2 {
            let answer = ask(&mut client, &post(1000, ""), "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 503 ") && !answer.contains("connection: close"), "{answer}");
            client.write_all(&[b'a'; 1000]).await.unwrap();
        }
        let answer = ask(&mut client, &post(MUCH, ""), "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connection: close\r\n"), "{answer}");
        client.write_all(&vec![b'a'; MUCH]).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    });
}

#[test]
fn requests_that_come_before_the_answer_to_the_one_before_them_wait_at_the_client_and_not_in_the_proxy() {
    run(async {
        let (asked, answer) = (Rc::new(RefCell::new(0)), Rc::new(Notify::new()));
        let (count, wait) = (asked.clone(), answer.clone());
        let application = server(move |mut stream, _| {
            let (count, wait) = (count.clone(), wait.clone());
            async move {
                loop {
                    read_head(&mut stream).await;
                    *count.borrow_mut() += 1;
                    wait.notified().await;
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                }
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        client.write_all(GET.repeat(2).as_bytes()).await.unwrap();
        let many = GET.repeat(MUCH / GET.len());
        tokio::time::pause();
        // It passes when nothing moves any more.
        assert!(
            timeout(Duration::from_secs(1), client.write_all(many.as_bytes())).await.is_err(),
            "all of it was read"
        );
        tokio::time::resume();
        let read = sum(&outbound.metrics, "tcp_read_bytes_total", &["peer=\"src\""]);
        // As `http::limits` says.
        assert!(read <= (2 * GET.len() + 64 * 1024) as f64, "{read} bytes");
        assert_eq!(*asked.borrow(), 1);
        for _ in 0..3 {
            answer.notify_one();
            read_until(&mut client, "ok").await;
        }
    });
}
