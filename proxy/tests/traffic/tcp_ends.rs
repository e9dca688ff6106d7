//! Bytes that are not read, on each way that they take: past one proxy or both, in the clear or by mutual TLS, on ports that
//! declare it and on ports that are looked at. Whoever speaks first, ends first or breaks, it is as without the proxies.

use crate::support::*;
use conduit_model::Protocol;
use std::{any::Any, future::Future, io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

/// A way to an application.
struct Way {
    name: String,
    address: SocketAddr,
    /// What is on it.
    _proxies: Box<dyn Any>,
}

/// Every way to `application`.
fn ways(application: SocketAddr) -> Vec<Way> {
    let mut ways = Vec::new();
    for protocol in [Protocol::Opaque, Protocol::Detect] {
        let mut way = |name: &str, address, proxies| {
            ways.push(Way { name: format!("{name}, {protocol:?}"), address, _proxies: proxies });
        };
        let outbound = OutboundProxy::balancing(protocol, &[endpoint(application, false)]);
        way("past the client's proxy", outbound.address, Box::new(outbound));
        let inbound = InboundProxy::before(application, protocol);
        way("past the server's proxy", inbound.address, Box::new(inbound));
        let meshed = chain(application, protocol);
        way("past both, meshed", meshed.0.address, Box::new(meshed));
    }
    ways
}

/// Has `client` and `server` talk on every way.
async fn on_every_way<S, C>(server: impl Fn(TcpStream) -> S + Copy + 'static, client: impl Fn(String, TcpStream) -> C)
where
    S: Future<Output = ()> + 'static,
    C: Future<Output = ()>,
{
    let application = self::server(move |stream, _| server(stream)).await;
    for way in ways(application) {
        let stream = TcpStream::connect(way.address).await.unwrap();
        client(way.name, stream).await;
    }
}

/// Answers once the client has ended its side.
async fn answer_at_the_end(mut stream: TcpStream) {
    let mut question = String::new();
    stream.read_to_string(&mut question).await.unwrap();
    stream.write_all(format!("you said {question}").as_bytes()).await.unwrap();
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_client_that_ends_its_side_hears_the_answer() {
    run(on_every_way(answer_at_the_end, |way, mut client| async move {
        client.write_all(b"PING\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "you said PING\r\n", "{way}");
    }));
}

#[test]
fn a_server_that_ends_its_side_hears_the_rest() {
    run(async {
        let (told, mut heard) = mpsc::unbounded_channel();
        let application = server(move |stream, _| {
            let told = told.clone();
            async move {
                let (mut from, mut to) = stream.into_split();
                from.read_exact(&mut [0; 6]).await.unwrap();
                to.write_all(b"send the rest").await.unwrap();
                to.shutdown().await.unwrap();
                let mut rest = String::new();
                from.read_to_string(&mut rest).await.unwrap();
                told.send(rest).unwrap();
            }
        })
        .await;
        for way in ways(application) {
            let mut client = TcpStream::connect(way.address).await.unwrap();
            client.write_all(b"HELO\r\n").await.unwrap();
            let mut asked = String::new();
            client.read_to_string(&mut asked).await.unwrap();
            assert_eq!(asked, "send the rest", "{}", way.name);
            client.write_all(b"the rest").await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(heard.recv().await.as_deref(), Some("the rest"), "{}", way.name);
        }
    });
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    async fn greets(mut stream: TcpStream) {
        stream.write_all(b"220 mail\r\n").await.unwrap();
        answer_at_the_end(stream).await;
    }
    run(on_every_way(greets, |way, mut client| async move {
        assert_eq!(read_until(&mut client, "\r\n").await, "220 mail\r\n", "{way}");
        client.write_all(b"QUIT").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_until(&mut client, "QUIT").await, "you said QUIT", "{way}");
    }));
}

#[test]
fn a_server_whose_reset_a_client_waits_for_resets_it() {
    async fn resets(stream: TcpStream) {
        stream.readable().await.unwrap();
        reset(stream);
    }
    run(on_every_way(resets, |way, mut client| async move {
        client.write_all(b"PING\r\n").await.unwrap();
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{way}");
    }));
}

#[test]
fn a_client_that_resets_is_a_reset_to_the_server() {
    run(async {
        let (told, mut ends) = mpsc::unbounded_channel();
        let application = server(move |mut stream, _| {
            let told = told.clone();
            async move {
                stream.read_exact(&mut [0; 6]).await.unwrap();
                stream.write_all(b"PONG\r\n").await.unwrap();
                told.send(stream.read_u8().await.unwrap_err().kind()).unwrap();
            }
        })
        .await;
        for way in ways(application) {
            let mut client = TcpStream::connect(way.address).await.unwrap();
            assert_eq!(ask(&mut client, "PING\r\n", "\r\n").await, "PONG\r\n");
            reset(client);
            assert_eq!(ends.recv().await, Some(io::ErrorKind::ConnectionReset), "{}", way.name);
        }
    });
}

#[test]
fn a_connection_that_was_idle_for_a_day_goes_on() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    run_within(DAY * 7, async {
        let echo = |mut stream: TcpStream| async move {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
        };
        on_every_way(echo, |way, mut client| async move {
            assert_eq!(ask(&mut client, "PING\r\n", "\r\n").await, "PING\r\n");
            tokio::time::pause();
            tokio::time::sleep(DAY).await;
            tokio::time::resume();
            assert_eq!(ask(&mut client, "still\r\n", "\r\n").await, "still\r\n", "{way}");
        })
        .await;
    });
}

#[test]
fn what_is_on_its_way_when_the_client_closes_arrives() {
    const SIZE: usize = 5_000_011;
    run(async {
        let (told, mut all) = mpsc::unbounded_channel();
        let application = server(move |mut stream, _| {
            let told = told.clone();
            async move {
                let (mut read, mut piece) = (Vec::new(), vec![0; 50_000]);
                loop {
                    // A slow reader: everything between is full before it is read.
                    tokio::task::yield_now().await;
                    match stream.read(&mut piece).await {
                        Ok(length @ 1..) => read.extend_from_slice(&piece[..length]),
                        Ok(0) | Err(_) => break,
                    }
                }
                told.send(read).unwrap();
            }
        })
        .await;
        let sent: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
        for way in ways(application) {
            let mut client = TcpStream::connect(way.address).await.unwrap();
            client.write_all(&sent).await.unwrap();
            drop(client);
            let all = all.recv().await.unwrap();
            assert!(all == sent, "{}: {} of {SIZE} bytes", way.name, all.len());
        }
    });
}

#[test]
fn what_is_on_its_way_when_the_server_closes_arrives() {
    const SIZE: usize = 5_000_011;
    async fn sends_and_closes(mut stream: TcpStream) {
        stream.read_exact(&mut [0; 6]).await.unwrap();
        let all: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
        stream.write_all(&all).await.unwrap();
    }
    run(on_every_way(sends_and_closes, |way, mut client| async move {
        client.write_all(b"PING\r\n").await.unwrap();
        let (mut read, mut piece) = (0, vec![0; 50_000]);
        loop {
            tokio::task::yield_now().await;
            let length = client.read(&mut piece).await.unwrap();
            if length == 0 {
                break;
            }
            assert!(
                piece[..length].iter().enumerate().all(|(i, byte)| usize::from(*byte) == (read + i) % 251),
                "{way}"
            );
            read += length;
        }
        assert_eq!(read, SIZE, "{way}");
    }));
}

#[test]
fn it_is_counted_what_said_what_a_connection_carries_and_how_long_that_took() {
    run(async {
        let echo = server(|mut stream, _| async move {
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        })
        .await;
        let mail = server(|mut stream, _| async move {
            stream.write_all(b"220 mail\r\n").await.unwrap();
            let _ = stream.read_u8().await;
        })
        .await;
        let classified = |metrics: &_, labels: &[&str]| sum(metrics, "conduit_connections_classified_total", labels);
        for (protocol, words, by, is) in [
            (Protocol::Opaque, "PING\r\n", "by=\"declared\"", "protocol=\"opaque\""),
            (Protocol::Detect, "PING\r\n", "by=\"first_bytes\"", "protocol=\"opaque\""),
            (Protocol::Detect, "PI", "by=\"nothing\"", "protocol=\"opaque\""),
        ] {
            let (outbound, inbound) = chain(echo, protocol);
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            assert_eq!(ask(&mut client, words, words).await, words);
            assert_eq!(classified(&outbound.metrics, &["direction=\"outbound\"", by, is]), 1.0, "{protocol:?}");
            assert_eq!(classified(&inbound.metrics, &["direction=\"inbound\"", "by=\"peer\"", is]), 1.0);
            let alone = InboundProxy::before(echo, protocol);
            let mut client = TcpStream::connect(alone.address).await.unwrap();
            assert_eq!(ask(&mut client, words, words).await, words);
            assert_eq!(classified(&alone.metrics, &["direction=\"inbound\"", by, is]), 1.0, "{protocol:?}");
        }
        let outbound = OutboundProxy::balancing(Protocol::Detect, &[endpoint(mail, false)]);
        let inbound = InboundProxy::before(mail, Protocol::Detect);
        for (address, metrics) in [(outbound.address, &outbound.metrics), (inbound.address, &inbound.metrics)] {
            let mut client = TcpStream::connect(address).await.unwrap();
            read_until(&mut client, "\r\n").await;
            assert_eq!(classified(metrics, &["by=\"server_first\"", "protocol=\"opaque\""]), 1.0);
            assert_eq!(classified(metrics, &[]), 1.0, "once each");
            let shown = shown(metrics);
            let waited =
                shown.lines().find_map(|line| line.strip_prefix("conduit_detection_latency_ms_sum{")?.split_once("} "));
            let waited: f64 = waited.unwrap().1.parse().unwrap();
            assert!(waited >= DETECT_TIMEOUT.as_millis() as f64, "{waited} ms");
        }
    });
}
