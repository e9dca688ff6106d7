//! Bytes that are not read.

use crate::support::*;
use conduit_model::{Forward, Outbound, OutboundTlsMode, Protocol};
use std::{io, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn echo(mut stream: TcpStream, _number: usize) {
    let (mut from, mut to) = stream.split();
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

#[test]
fn a_client_may_end_its_side_and_wait_for_the_answer() {
    run(async {
        for protocol in [Protocol::Opaque, Protocol::Detect] {
            let application = server(|mut stream, _| async move {
                let mut question = String::new();
                stream.read_to_string(&mut question).await.unwrap();
                stream.write_all(format!("you said {question}").as_bytes()).await.unwrap();
            })
            .await;
            let (outbound, inbound) = chain(application, protocol);
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            client.write_all(b"PING\r\n").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "you said PING\r\n");
            wait_for(&outbound.metrics, "tcp_open_connections", &[], 0.0).await;
            wait_for(&inbound.metrics, "tcp_open_connections", &[], 0.0).await;
            let bytes = |metrics, peer| {
                ["tcp_read_bytes_total", "tcp_write_bytes_total"].map(|name| sum(metrics, name, &[peer]))
            };
            assert_eq!(bytes(&outbound.metrics, "peer=\"src\""), [6.0, 15.0]);
            assert_eq!(bytes(&inbound.metrics, "peer=\"dst\""), [15.0, 6.0]);
            let [read, wrote] = bytes(&outbound.metrics, "peer=\"dst\"");
            assert!(read > 1000.0 && wrote > 1000.0, "what TLS takes is on the wire: {read}, {wrote}");
            assert_eq!(bytes(&inbound.metrics, "peer=\"src\""), [wrote, read]);
            for (metrics, peer) in [
                (&outbound.metrics, "peer=\"src\""),
                (&outbound.metrics, "peer=\"dst\""),
                (&inbound.metrics, "peer=\"src\""),
                (&inbound.metrics, "peer=\"dst\""),
            ] {
                assert_eq!(sum(metrics, "tcp_open_total", &[peer]), 1.0);
                assert_eq!(sum(metrics, "tcp_close_total", &[peer, "errno=\"\""]), 1.0);
            }
        }
    });
}

#[test]
fn a_server_that_speaks_first_is_heard_after_a_short_silence_and_the_next_time_at_once() {
    run(async {
        let application = server(|mut stream, _| async move {
            stream.write_all(b"220 mail\r\n").await.unwrap();
            let _ = stream.read_u8().await;
        })
        .await;
        let outbound = OutboundProxy::balancing(Protocol::Detect, &[endpoint(application, false)]);
        let mut waits = Vec::new();
        for _ in 0..2 {
            let start = Instant::now();
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            assert_eq!(read_until(&mut client, "\r\n").await, "220 mail\r\n");
            waits.push(start.elapsed());
        }
        assert!(waits[0] >= DETECT_TIMEOUT, "{waits:?}");
        assert!(waits[1] < DETECT_TIMEOUT / 2, "{waits:?}");
    });
}

#[test]
fn a_client_that_breaks_the_silence_late_is_still_understood() {
    run(async {
        let application = http1_server(|_| async { http::Response::new(full("late")) }).await;
        let (outbound, inbound) = chain(application, Protocol::Detect);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        tokio::time::sleep(DETECT_TIMEOUT * 3).await;
        let answer = ask(&mut client, "GET / HTTP/1.1\r\nhost: web\r\n\r\n", "late").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        wait_for(&inbound.metrics, "response_total", &["status_code=\"200\""], 1.0).await;
    });
}

#[test]
fn a_reset_is_carried_as_a_reset_in_both_directions() {
    run(async {
        let application = server(|stream, _| async move {
            stream.readable().await.unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Opaque);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        client.write_all(b"x").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        wait_for(&inbound.metrics, "tcp_close_total", &["peer=\"dst\"", "errno=\"ECONNRESET\""], 1.0).await;
    });
}

#[test]
fn a_connection_that_reaches_no_endpoint_is_reset_and_one_that_reaches_the_second_is_not() {
    run(async {
        let nobody = OutboundProxy::balancing(Protocol::Opaque, &[]);
        let mut client = TcpStream::connect(nobody.address).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        let alive = server(echo).await;
        for _ in 0..8 {
            let endpoints = [endpoint(refusing().await, false), endpoint(alive, false)];
            let one = OutboundProxy::balancing(Protocol::Opaque, &endpoints);
            let mut client = TcpStream::connect(one.address).await.unwrap();
            assert_eq!(ask(&mut client, "hello", "hello").await, "hello");
        }
    });
}

#[test]
fn a_destination_that_nobody_knows_passes_through_to_its_address() {
    run(async {
        let outside = server(echo).await;
        let proxy = OutboundProxy::start(Outbound::unknown(OutboundTlsMode::Prefer), outside);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(ask(&mut client, "hello", "hello").await, "hello");
        assert_eq!(sum(&proxy.metrics, "tcp_open_total", &["peer=\"dst\"", "direction=\"outbound\""]), 1.0);
        assert!(!shown(&proxy.metrics).contains("authority"), "an address is no label");
    });
}

#[test]
fn a_destination_that_becomes_known_is_balanced_from_the_next_connection_on() {
    run(async {
        let (old, new) = (
            server(echo).await,
            server(|mut stream, _| async move {
                stream.write_all(b"new").await.unwrap();
            })
            .await,
        );
        let proxy = OutboundProxy::start(Outbound::unknown(OutboundTlsMode::Prefer), old);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(ask(&mut client, "old", "old").await, "old");
        proxy.destination.apply_endpoints(conduit_model::EndpointUpdate::Whole(vec![endpoint(new, false)]));
        proxy.destination.apply_config(std::sync::Arc::new(Outbound {
            service: Some(service_port()),
            forward: Forward::Balance,
            ..Outbound::unknown(OutboundTlsMode::Prefer)
        }));
        let mut next = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(read_until(&mut next, "new").await, "new");
        assert_eq!(ask(&mut client, "still", "still").await, "still", "open connections are left to finish");
    });
}

#[test]
fn a_connection_to_the_proxy_itself_or_to_another_pod_is_closed_and_counted() {
    run(async {
        let elsewhere =
            InboundProxy::with_pod_ip("127.0.0.1:9".parse().unwrap(), "10.1.2.3:9".parse().unwrap(), Protocol::Opaque);
        assert_eq!(exchange(elsewhere.address, "").await, "");
        let labels = ["direction=\"inbound\"", "reason=\"not_this_pod\""];
        assert_eq!(sum(&elsewhere.metrics, "conduit_connections_refused_total", &labels), 1.0);
    });
}

#[test]
fn a_large_transfer_arrives_whole_through_a_slow_reader() {
    run(async {
        const SIZE: usize = 20 * 1024 * 1024;
        let application = server(|mut stream, _| async move {
            let block: Vec<u8> = (0..=255).cycle().take(65_521).collect();
            let mut left = SIZE;
            while left > 0 {
                let length = left.min(block.len());
                stream.write_all(&block[..length]).await.unwrap();
                left -= length;
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Opaque);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let (mut seen, mut buffer) = (0, vec![0; 300_000]);
        loop {
            let length = client.read(&mut buffer).await.unwrap();
            if length == 0 {
                break;
            }
            for (i, byte) in buffer[..length].iter().enumerate() {
                assert_eq!(usize::from(*byte), ((seen + i) % 65_521) % 256);
            }
            seen += length;
            tokio::task::yield_now().await;
        }
        assert_eq!(seen, SIZE);
    });
}
