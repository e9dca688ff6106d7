//! Sockets: bound, and with TLS on them. Must not know what is served.

use crate::credential::{Authenticated, HandshakeRefusal, MeshClients};
use anyhow::Context as _;
use conduit_webhook_certs::{CertificateError, ServingCertificate, server_config};
use futures::{Stream, StreamExt, future::ready, stream};
use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
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
/// Those of one address at once, and its connections of which nobody knows whose they are; further ones are let go. One pod
/// that connects and then says nothing is not to take the place of everybody else, and proxies behind one address come
/// again after a moment.
const PER_ADDRESS: usize = 64;
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

/// The connections that shook hands. Those that did not are logged and left out. No client has proven who it is, so that
/// each holds a place of its address until it ends.
///
/// # Errors
///
/// As [`server_config`].
pub(super) fn with_tls(
    listener: TcpListener,
    certificate: Arc<ServingCertificate>,
    alpn: &[&[u8]],
) -> Result<impl Stream<Item = io::Result<Connection<()>>> + Send + use<>, CertificateError> {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(certificate, alpn)?));
    let shake = move |tcp, place| {
        let shaking = acceptor.accept(tcp);
        async move {
            let tls = shaking.await.map_err(HandshakeRefusal::Handshake)?;
            Ok(Connection { tls, client: (), _place: Some(place) })
        }
    };
    Ok(connections(listener, shake, |_| {}))
}

/// The connections of clients that have proven their workload by a certificate. The others are logged and left out, and
/// `refused` is told of each.
pub(super) fn with_client_certificates(
    listener: TcpListener,
    clients: Arc<MeshClients>,
    refused: impl Fn(&HandshakeRefusal) + Send,
) -> impl Stream<Item = io::Result<Connection<Authenticated>>> + Send {
    let shake = move |tcp, place| {
        let clients = Arc::clone(&clients);
        async move {
            let (tls, client) = clients.accept(tcp).await?;
            drop(place);
            Ok(Connection { tls, client, _place: None })
        }
    };
    connections(listener, shake, refused)
}

fn connections<T, F>(
    listener: TcpListener,
    shake: impl Fn(TcpStream, Place) -> F + Send,
    refused: impl Fn(&HandshakeRefusal) + Send,
) -> impl Stream<Item = io::Result<Connection<T>>> + Send
where
    F: Future<Output = Result<Connection<T>, HandshakeRefusal>> + Send,
    T: Send,
{
    let accepted = stream::unfold(listener, async |listener| Some((accept(&listener).await, listener)));
    let under_way = UnderWay::default();
    let handshakes = accepted.map(move |tcp| {
        let peer = tcp.peer_addr().ok();
        // Answers are small and awaited.
        let prepared = tcp.set_nodelay(true).map_err(HandshakeRefusal::Handshake);
        let place = under_way.take(peer.map(|peer| peer.ip())).ok_or(HandshakeRefusal::TooMany);
        let shaking = prepared.and(place).map(|place| tokio::time::timeout(HANDSHAKE_TIMEOUT, shake(tcp, place)));
        async move {
            let shaken = match shaking {
                Ok(shaking) => shaking.await.unwrap_or(Err(HandshakeRefusal::Timeout)),
                Err(refusal) => Err(refusal),
            };
            (peer, shaken)
        }
    });
    handshakes.buffer_unordered(HANDSHAKES).filter_map(move |(peer, shaken)| {
        let connection = shaken.inspect_err(|refusal| {
            refused(refusal);
            log(peer, refusal);
        });
        ready(connection.ok().map(Ok))
    })
}

/// How many places each address has taken.
#[derive(Clone, Debug, Default)]
struct UnderWay(Arc<Mutex<HashMap<Option<IpAddr>, usize>>>);

/// One of them; given back when dropped.
#[derive(Debug)]
struct Place {
    under_way: UnderWay,
    address: Option<IpAddr>,
}

impl UnderWay {
    /// A place for another one of `address`; none where it has them all.
    fn take(&self, address: Option<IpAddr>) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        (*count < PER_ADDRESS).then(|| {
            *count += 1;
            Place { under_way: self.clone(), address }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Clients that break off are everyday; one with a certificate that is not good should be looked at.
fn log(peer: Option<SocketAddr>, refusal: &HandshakeRefusal) {
    match refusal {
        HandshakeRefusal::Handshake(_)
        | HandshakeRefusal::Timeout
        | HandshakeRefusal::TooMany
        | HandshakeRefusal::NoRoots => {
            tracing::debug!(?peer, %refusal, "a connection was not taken");
        }
        HandshakeRefusal::NoCertificate
        | HandshakeRefusal::NotValidNow(_)
        | HandshakeRefusal::Untrusted(_)
        | HandshakeRefusal::NoWorkload(_) => tracing::warn!(?peer, %refusal, "a connection was not taken"),
    }
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

/// An accepted connection with TLS, and who is at its other end where that is known.
#[derive(Debug)]
pub(super) struct Connection<T> {
    tls: TlsStream<TcpStream>,
    client: T,
    _place: Option<Place>,
}

impl<T: Clone + Send + Sync + 'static> Connected for Connection<T> {
    type ConnectInfo = T;

    fn connect_info(&self) -> T {
        self.client.clone()
    }
}

impl<T: Unpin> AsyncRead for Connection<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buffer)
    }
}

impl<T: Unpin> AsyncWrite for Connection<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
