//! Sockets: bound, and with TLS on them. Must not know what is served.

use anyhow::Context as _;
use conduit_webhook_certs::{CertificateError, ServingCertificate, server_config};
use futures::{Stream, StreamExt, stream};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

/// How long a client may take to shake hands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at once; further connections wait in the kernel's queue.
const HANDSHAKES: usize = 256;
/// How long accepting rests when the process has no more file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Listens on `port` of `ip`, or of every address of both families; of IPv4 alone where the kernel has no IPv6.
///
/// # Errors
///
/// The port is taken, or the address is none of this machine.
pub(super) async fn bind(ip: Option<IpAddr>, port: u16, what: &'static str) -> anyhow::Result<TcpListener> {
    let any = TcpListener::bind((ip.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), port)).await;
    let listener = match (any, ip) {
        (Err(_), None) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        (bound, _) => bound,
    };
    let listener = listener.with_context(|| format!("cannot listen on port {port} for {what}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening for {what}");
    Ok(listener)
}

/// The connections that shook hands. Those that did not are logged and left out.
///
/// # Errors
///
/// As [`server_config`].
pub(super) fn with_tls(
    listener: TcpListener,
    certificate: Arc<ServingCertificate>,
    alpn: &[&[u8]],
) -> Result<impl Stream<Item = io::Result<Connection>> + Send + use<>, CertificateError> {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(certificate, alpn)?));
    let accepted = stream::unfold(listener, async |listener| Some((accept(&listener).await, listener)));
    let handshakes = accepted.map(move |tcp| handshake(acceptor.clone(), tcp)).buffer_unordered(HANDSHAKES);
    Ok(handshakes.filter_map(async |connection| connection.map(Ok)))
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return tcp,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn handshake(acceptor: TlsAcceptor, tcp: TcpStream) -> Option<Connection> {
    let peer = tcp.peer_addr();
    // Answers are small and awaited.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(?peer, %error, "a connection was closed at once");
        return None;
    }
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => Some(Connection(tls)),
        Ok(Err(error)) => {
            tracing::debug!(?peer, %error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(?peer, "a TLS handshake took too long");
            None
        }
    }
}

/// An accepted connection with TLS.
#[derive(Debug)]
pub(super) struct Connection(TlsStream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
