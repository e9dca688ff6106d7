//! Peers whose host or network is gone while bytes are on their way to them, and peers that only pause; and the end of all
//! that is open. Each in a network of its own, whose packets can be lost.

use crate::{namespace, support::*};
use conduit_model::Protocol;
use conduit_proxy::{
    listen::{drain, vanished::look_after},
    record::Metrics,
};
use std::{cell::Cell, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::spawn_local,
};

const PATIENCE: Duration = Duration::from_secs(1);

/// Runs a case in a network of its own, on a worker whose connections are looked after.
fn run_apart(case: impl AsyncFnOnce() + Send) {
    namespace::inside(|| {
        run(async {
            let (_signal, drain) = drain::channel();
            let looks = spawn_local(look_after(PATIENCE, drain));
            case().await;
            looks.abort();
        });
    });
}

/// The beginning of an answer, which means the same to HTTP and to nobody.
const BEGINNING: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nbegun";

/// An application that begins to answer, and goes on when it is told to; then it waits for the end, and says what it was.
async fn application() -> (SocketAddr, Rc<Notify>, Rc<Cell<Option<io::ErrorKind>>>) {
    let (go_on, end) = (Rc::new(Notify::new()), Rc::new(Cell::new(None)));
    let (told, ended) = (go_on.clone(), end.clone());
    let address = server(move |mut stream, _| {
        let (told, ended) = (told.clone(), ended.clone());
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(BEGINNING.as_bytes()).await.unwrap();
            told.notified().await;
            stream.write_all(&[b'x'; 1000]).await.unwrap();
            ended.set(stream.read_to_end(&mut Vec::new()).await.err().map(|error| error.kind()));
            told.notify_one();
        }
    })
    .await;
    (address, go_on, end)
}

/// Waits until a connection was given up.
async fn given_up(metrics: &Arc<Metrics>, peer: &str) {
    while sum(metrics, "tcp_close_total", &[peer, "errno=\"ETIMEDOUT\""]) == 0.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const QUESTION: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";

#[test]
fn a_client_that_vanishes_with_bytes_on_their_way_to_it_is_given_up_and_the_server_hears_of_it() {
    for protocol in [Protocol::Opaque, Protocol::Http1] {
        run_apart(async move || {
            let (application, go_on, end) = application().await;
            let (outbound, _inbound) = chain(application, protocol);
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            ask(&mut client, QUESTION, "begun").await;
            namespace::lose(client.local_addr().unwrap().port());
            go_on.notify_one();
            given_up(&outbound.metrics, "peer=\"src\"").await;
            go_on.notified().await;
            if protocol == Protocol::Opaque {
                assert_eq!(end.get(), Some(io::ErrorKind::ConnectionReset));
            }
        });
    }
}

#[test]
fn a_server_that_vanishes_with_bytes_on_their_way_to_it_is_given_up_and_the_client_hears_of_it() {
    for lost_is_the_proxy in [false, true] {
        run_apart(async move || {
            let (application, _go_on, _end) = application().await;
            let (outbound, inbound) = chain(application, Protocol::Opaque);
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            ask(&mut client, QUESTION, "begun").await;
            let lost = if lost_is_the_proxy { inbound.address } else { application };
            namespace::lose(lost.port());
            client.write_all(b"more").await.unwrap();
            let mut rest = Vec::new();
            assert_eq!(client.read_to_end(&mut rest).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            let noticed = if lost_is_the_proxy { &outbound.metrics } else { &inbound.metrics };
            given_up(noticed, "peer=\"dst\"").await;
        });
    }
}

#[test]
fn a_reader_that_pauses_for_longer_keeps_its_connection_and_gets_every_byte() {
    run_apart(async || {
        /// More than the buffers of three connections hold.
        const SIZE: usize = 64 * 1024 * 1024;
        let sent = Rc::new(Cell::new(0));
        let counter = sent.clone();
        let application = server(move |mut stream, _| {
            let counter = counter.clone();
            async move {
                stream.read_u8().await.unwrap();
                while counter.get() < SIZE {
                    counter.set(
                        counter.get() + stream.write(&[7; 65_536][..(SIZE - counter.get()).min(65_536)]).await.unwrap(),
                    );
                }
            }
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Opaque);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        client.write_all(b"!").await.unwrap();
        client.readable().await.unwrap();
        // All buffers on the way are full, and nothing is read for as long as three vanished peers would have.
        tokio::time::sleep(PATIENCE * 4).await;
        assert!(sent.get() < SIZE, "the buffers hold all {SIZE} bytes: nobody waits for this reader");
        let (mut arrived, mut some) = (0, vec![0; 256 * 1024]);
        loop {
            match client.read(&mut some).await.unwrap() {
                0 => break,
                length => arrived += length,
            }
        }
        assert_eq!(arrived, SIZE);
        for metrics in [&outbound.metrics, &inbound.metrics] {
            assert_eq!(sum(metrics, "tcp_close_total", &["errno=\"ETIMEDOUT\""]), 0.0);
        }
    });
}

#[test]
fn what_is_cut_is_reset_at_both_its_ends_and_its_proxies_end() {
    run(async {
        let (application, go_on, end) = application().await;
        let proxy = InboundProxy::before(application, Protocol::Opaque);
        let looks = spawn_local(look_after(PATIENCE, proxy.drained.clone()));
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        ask(&mut client, QUESTION, "begun").await;
        go_on.notify_one();
        ask(&mut client, "", "x").await;
        proxy.drain.cut();
        let mut rest = Vec::new();
        assert_eq!(client.read_to_end(&mut rest).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        go_on.notified().await;
        assert_eq!(end.get(), Some(io::ErrorKind::ConnectionReset));
        proxy.served.await.unwrap().unwrap();
        looks.abort();
    });
}
