//! The handshake with a peer of the mesh, from its first byte: with it the peer proves who it is, and says what the
//! connection carries. Whoever cannot prove it gets nothing, plaintext neither.

use crate::{
    identity::{Alpn, Credentials, TlsError, VerifiedPeer},
    listen::io::{Counted, Io},
    outcome::Failure,
    record::{
        labels::Direction,
        metrics::{Handshake, Metrics},
        tcp::TcpSeries,
    },
};
use rustls::HandshakeKind;
use std::{io, sync::Arc};
use tokio::net::TcpStream;

/// A connection whose peer is known.
#[derive(Debug)]
pub(super) struct Handshaken {
    pub(super) io: Io,
    pub(super) alpn: Alpn,
    pub(super) peer: VerifiedPeer,
}

/// Takes the connection of a peer, counted by what `series` gives for whom it proved to be, or for nobody.
///
/// # Errors
/// One of the two could not prove who it is. The connection is closed.
pub(super) async fn accept(
    stream: TcpStream,
    credentials: Option<Arc<Credentials>>,
    metrics: &Metrics,
    series: impl Fn(Option<&VerifiedPeer>) -> Arc<TcpSeries>,
) -> Result<Handshaken, Failure> {
    let aside = TcpSeries::aside();
    let counted = Counted::new(stream, aside.open());
    let failed = |reason| {
        metrics.handshake(Direction::Inbound, Handshake::Failed(reason));
        series(None).take_over(&aside).broke(&io::ErrorKind::ConnectionAborted.into());
    };
    let Some(credentials) = credentials else {
        failed("no_certificate");
        Io::from(counted).reset_on_close();
        return Err(Failure::IdentityMissing);
    };
    match credentials.accept(counted).await {
        Ok((mut tls, alpn, peer)) => {
            let (counted, session) = tls.get_mut();
            metrics.handshake(
                Direction::Inbound,
                match session.handshake_kind() {
                    Some(HandshakeKind::Resumed) => Handshake::Resumed,
                    Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => Handshake::Full,
                },
            );
            counted.record = series(Some(&peer)).take_over(&aside);
            Ok(Handshaken { io: tls.into(), alpn, peer })
        }
        Err(error) => {
            tracing::debug!(%error, "handshake with a peer failed");
            failed(error.reason());
            Err(match error {
                TlsError::OwnCertificateExpired => Failure::IdentityExpired,
                _ => Failure::TlsFailed,
            })
        }
    }
}
