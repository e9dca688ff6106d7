//! Who may open a stream, what it may ask for, and until when.

use super::*;
use futures::StreamExt;
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tonic::transport::server::Connected;

/// What the metrics say was refused, but for zeros.
fn refused(operator: &Operator) -> Vec<String> {
    let mut registry = Registry::default();
    operator.metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("conduit_discovery_requests_refused_total"));
    lines.map(|line| line.split_once('{').unwrap().1.to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn who_proves_nothing_is_told_nothing() {
    let operator = Operator::start();
    let status = operator.try_connect(None).await.err().unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "the connection has no certificate of the mesh")
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_certificate_and_none_begins_after_that() {
    let operator = Operator::start();
    let left = Duration::from_secs(30);
    let mut proxy = operator.try_connect(Some(authenticated("web-1", None, NOW + left))).await.unwrap();
    proxy.subscribe(Target::Inbound).await;
    proxy.next().await;
    let begun = tokio::time::Instant::now();
    assert!(proxy.updates.message().await.unwrap().is_none(), "without an error");
    assert_eq!(begun.elapsed().as_secs(), left.as_secs());

    let status = operator.try_connect(Some(authenticated("web-1", None, NOW))).await.err().unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "the connection's certificate has ended; come with a new one")
    );
    assert_eq!(refused(&operator), ["reason=\"expired\"} 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_of_the_pod_of_its_certificate_and_of_no_other() {
    let operator = Operator::start();
    operator.apply(&pod("web-2"));
    let mut one = operator.connect("web-1").await;
    let mut two = operator.connect("web-2").await;
    for (proxy, name) in [(&mut one, "web-1"), (&mut two, "web-2")] {
        proxy.subscribe(Target::Inbound).await;
        let response = proxy.next().await;
        let Some(Update::Inbound(inbound)) = response.update else { panic!("{response:?}") };
        assert_eq!(inbound.workload.unwrap().pod, name);
        proxy.hears_nothing().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_certificate_of_an_earlier_pod_of_the_name_tells_nothing_of_the_new_one() {
    let operator = Operator::start();
    operator.apply(&pod("web-1").replace("name: web-1,", "name: web-1, uid: new,"));
    let valid = NOW + Duration::from_secs(3600);
    let mut earlier = operator.try_connect(Some(authenticated("web-1", Some("old"), valid))).await.unwrap();
    earlier.subscribe(Target::Inbound).await;
    earlier.hears_nothing().await;
    let mut current = operator.try_connect(Some(authenticated("web-1", Some("new"), valid))).await.unwrap();
    current.subscribe(Target::Inbound).await;
    assert!(matches!(current.next().await.update, Some(Update::Inbound(_))));
    let mut stranger = operator.try_connect(Some(authenticated("web-9", Some("any"), valid))).await.unwrap();
    stranger.subscribe(Target::Inbound).await;
    stranger.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_understood_ends_the_stream_with_the_field_and_is_counted() {
    let operator = Operator::start();
    let target = |target| Some(wire::Target { target: Some(target) });
    let short = wire::SocketAddress { ip: vec![10], port: 80 };
    let acknowledge = wire::Acknowledge {
        target: target(wire::target::Target::Inbound(wire::InboundTarget {})),
        ..Default::default()
    };
    for (message, said) in [
        (Message::Subscribe(wire::Subscribe::default()), "target: is required"),
        (
            Message::Subscribe(wire::Subscribe {
                target: target(wire::target::Target::Outbound(short)),
                ..Default::default()
            }),
            "outbound.ip: must have 4 or 16 bytes",
        ),
        (Message::Acknowledge(acknowledge), "resource: is required"),
    ] {
        let mut proxy = operator.connect("web-1").await;
        proxy.send(message).await;
        let status = proxy.updates.message().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(said), "{}", status.message());
    }
    let mut refused = refused(&operator);
    refused.sort();
    assert_eq!(refused, ["reason=\"incomplete\"} 2", "reason=\"unreadable\"} 1"]);
}

/// A connection whose handshake has proven `web-1`.
pub(super) struct Proven(DuplexStream);

impl Proven {
    pub(super) fn new(stream: DuplexStream) -> Self {
        Self(stream)
    }
}

impl Connected for Proven {
    type ConnectInfo = Authenticated;

    fn connect_info(&self) -> Authenticated {
        authenticated("web-1", None, NOW + Duration::from_secs(24 * 3600))
    }
}

impl AsyncRead for Proven {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Proven {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Its client answers nothing, so that it cannot be asked to go.
#[tokio::test(start_paused = true)]
async fn a_connection_ends_a_while_after_its_streams_have_to_so_that_its_client_proves_itself_again() {
    let lifetime = Duration::from_secs(60);
    let kept = Duration::from_secs(24 * 3600);
    let settings = Settings { lifetime, keepalive_interval: kept, keepalive_timeout: kept, ..Settings::default() };
    let operator = Operator::with(settings);
    let (mut client, served) = tokio::io::duplex(64 * 1024);
    let incoming = futures::stream::iter([Ok::<_, io::Error>(Proven(served))]).chain(futures::stream::pending());
    let discovery = operator.discovery.clone();
    let _serving = AbortOnDropHandle::new(tokio::spawn(async move { discovery.serve(incoming).await }));
    // The preface of a client, and its empty settings (RFC 9113 section 3.4).
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let begun = tokio::time::Instant::now();
    timeout(kept / 2, client.read_to_end(&mut Vec::new())).await.expect("the connection ends").unwrap();
    assert_eq!(begun.elapsed().as_secs(), (lifetime * 5 / 2).as_secs());
}
