//! More connections than anybody needs: how many are let in, what they take while they say nothing sensible, and that
//! others are served beside and after them.

use crate::{heap, support::*};
use conduit_model::{InboundMtls, InboundMtlsMode, Protocol};
use conduit_proxy::{app::descriptors, listen::room::Bounds};
use http::Response;
use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
};

const QUESTION: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";

async fn application() -> SocketAddr {
    http1_server(|_| async { Response::new(full("served")) }).await
}

async fn connect_from(ip: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((ip, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether a request on a connection from `from` is answered; a connection that is refused is reset.
async fn is_served(from: &str, proxy: &InboundProxy) -> Option<TcpStream> {
    let mut client = connect_from(from.parse().unwrap(), proxy.address).await;
    let asked = tokio::io::AsyncWriteExt::write_all(&mut client, QUESTION.as_bytes()).await;
    let mut first = [0; 8];
    let read = match asked {
        Ok(()) => client.read_exact(&mut first).await.map(drop),
        Err(error) => Err(error),
    };
    match read {
        Ok(()) => {
            assert_eq!(&first, b"HTTP/1.1");
            Some(client)
        }
        Err(error) => {
            let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            assert!(kinds.contains(&error.kind()), "{error}");
            None
        }
    }
}

#[test]
fn one_address_cannot_keep_others_out_nor_all_together_the_kubelets_probes() {
    run(async {
        const KUBELET: &str = "127.0.0.9";
        let bounds = Bounds::shared(6, 50);
        let proxy = InboundProxy::with_room(application().await, bounds, vec![KUBELET.parse().unwrap()]);
        let refused = |reason: &str| {
            let labels = ["direction=\"inbound\"", &format!("reason=\"{reason}\"")];
            sum(&proxy.metrics, "conduit_connections_refused_total", &labels)
        };
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(is_served("127.0.0.1", &proxy).await.unwrap());
        }
        assert!(is_served("127.0.0.1", &proxy).await.is_none());
        assert_eq!((refused("too_many_of_address"), refused("too_many")), (1.0, 0.0));
        for other in ["127.0.0.2", "127.0.0.3", "127.0.0.4"] {
            open.push(is_served(other, &proxy).await.unwrap());
        }
        assert!(is_served("127.0.0.5", &proxy).await.is_none());
        assert_eq!((refused("too_many_of_address"), refused("too_many")), (1.0, 1.0));
        assert_eq!(sum(&proxy.metrics, "tcp_open_total", &["peer=\"src\""]), 6.0, "nothing was made for the others");
        for _ in 0..5 {
            open.push(is_served(KUBELET, &proxy).await.unwrap());
        }
        open.clear();
        wait_for(&proxy.metrics, "tcp_open_connections", &["peer=\"src\""], 0.0).await;
        assert!(is_served("127.0.0.5", &proxy).await.is_some(), "there is room again");
    });
}

/// A flood of connections, of which each says `words` and nothing more.
struct Flood {
    mode: InboundMtlsMode,
    protocol: Protocol,
    words: Vec<u8>,
    /// Most that the proxy may hold for each, in bytes, debug builds being no smaller than others.
    bound: isize,
    /// What each is answered in the end, and that it ends, if it does.
    end: Option<&'static str>,
}

const CONNECTIONS: usize = 2000;

/// Opens the flood, looks what it takes, serves somebody else, waits for its end, and serves somebody else again.
fn withstand(flood: Flood) {
    let limit = descriptors::raise().unwrap();
    assert!(limit > CONNECTIONS * 4, "{limit} descriptors are too few for this case");
    run_within(Duration::from_secs(60), async move {
        let port = |application| {
            let mtls = InboundMtls { mode: flood.mode, ..InboundMtls::DEFAULT };
            conduit_model::InboundPort { mtls, ..inbound_port(application, flood.protocol) }
        };
        let served = application().await;
        let inbound =
            conduit_model::Inbound { ports: vec![port(served)], ..conduit_model::Inbound::of(workload("web")) };
        let proxy = InboundProxy::told(served, inbound, Vec::new());
        let peer = async || {
            let mut peer = proxy.peer(conduit_proxy::identity::Alpn::Http1).await;
            ask(&mut peer, QUESTION, "served").await
        };
        peer().await;
        let before = heap::held();
        let mut clients = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let mut client = std::net::TcpStream::connect(proxy.address).unwrap();
            client.write_all(&flood.words).unwrap();
            clients.push(client);
        }
        // Who comes after them is served; and all of them have been looked at by then.
        assert!(peer().await.contains(" 200 OK"));
        let each = (heap::held() - before) / CONNECTIONS as isize;
        assert!(each < flood.bound, "a connection takes {each} bytes");

        if let Some(end) = flood.end {
            tokio::time::pause();
            for client in clients {
                client.set_nonblocking(true).unwrap();
                let mut answer = Vec::new();
                let _reset = TcpStream::from_std(client).unwrap().read_to_end(&mut answer).await;
                let answer = String::from_utf8(answer).unwrap();
                assert!(answer.starts_with(end) && answer.is_empty() == end.is_empty(), "{answer:?}, not {end:?}");
            }
            tokio::time::resume();
        } else {
            drop(clients);
        }
        wait_for(&proxy.metrics, "tcp_open_connections", &["peer=\"src\"", "direction=\"inbound\""], 0.0).await;
        assert!(peer().await.contains(" 200 OK"));
        let left = (heap::held() - before) / CONNECTIONS as isize;
        assert!(left < 200, "{left} bytes are left of each");
    });
}

#[test]
fn a_flood_of_half_a_hello_takes_little_and_ends() {
    let words = vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 0, 0, 0];
    withstand(Flood { mode: InboundMtlsMode::Strict, protocol: Protocol::Detect, words, bound: 5_000, end: Some("") });
}

#[test]
fn a_flood_of_silence_takes_little_and_ends_where_only_peers_are_served() {
    let words = Vec::new();
    withstand(Flood { mode: InboundMtlsMode::Strict, protocol: Protocol::Detect, words, bound: 5_000, end: Some("") });
}

#[test]
fn a_flood_of_silence_takes_little_where_clients_speak_when_they_like() {
    let words = Vec::new();
    withstand(Flood { mode: InboundMtlsMode::Permissive, protocol: Protocol::Http1, words, bound: 5_000, end: None });
}

#[test]
fn a_flood_of_half_a_head_takes_a_buffer_each_and_is_answered_408() {
    let words = [b"GET / HTTP/1.1\r\nhost: web\r\nx: ", &[b'x'; 1000][..]].concat();
    let end = Some("HTTP/1.1 408 ");
    withstand(Flood { mode: InboundMtlsMode::Permissive, protocol: Protocol::Http1, words, bound: 20_000, end });
}
