//! The handshake with a peer of the mesh, from its first byte: with it the peer proves who it is, and says what the
//! connection carries. Whoever cannot prove it gets nothing, plaintext neither.

use crate::{
    identity::{Alpn, Identity, VerifiedPeer},
    listen::io::{Counted, Io},
    outcome::{Failure, Seldom},
    record::{
        labels::Direction,
        metrics::{Handshake, Metrics},
        tcp::TcpSeries,
    },
};
use rustls::HandshakeKind;
use std::{fmt, io, net::IpAddr, sync::Arc};
use tokio::{net::TcpStream, time::Instant};

/// A connection whose peer is known.
#[derive(Debug)]
pub(super) struct Handshaken {
    pub(super) io: Io,
    pub(super) alpn: Alpn,
    pub(super) peer: VerifiedPeer,
}

/// What the handshakes of one worker take.
#[derive(Debug)]
pub(super) struct Handshakes {
    identity: Arc<Identity>,
    metrics: Arc<Metrics>,
    log: Seldom,
}

impl Handshakes {
    pub(super) fn new(identity: Arc<Identity>, metrics: Arc<Metrics>) -> Self {
        Self { identity, metrics, log: Seldom::default() }
    }

    /// Takes the connection of a peer from `from`, counted by what `series` gives for whom it proved to be, or for nobody;
    /// none where one of the two could not prove who it is, which ends the connection.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        from: IpAddr,
        series: impl Fn(Option<&VerifiedPeer>) -> Arc<TcpSeries>,
    ) -> Option<Handshaken> {
        let aside = TcpSeries::aside();
        let counted = Counted::new(stream, aside.open());
        let failed = |reason, error: &dyn fmt::Display| {
            self.failed(from, reason, error);
            series(None).take_over(&aside).broke(&io::ErrorKind::ConnectionAborted.into());
        };
        let Some(credentials) = self.identity.credentials() else {
            failed("no_certificate", &Failure::IdentityMissing);
            Io::from(counted).reset_on_close();
            return None;
        };
        let start = Instant::now();
        match credentials.accept(counted).await {
            Ok((mut tls, alpn, peer)) => {
                let (counted, session) = tls.get_mut();
                let handshake = match session.handshake_kind() {
                    Some(HandshakeKind::Resumed) => Handshake::Resumed,
                    Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => Handshake::Full,
                };
                self.metrics.handshake(Direction::Inbound, handshake);
                self.metrics.handshake_took(Direction::Inbound, start.elapsed());
                counted.record = series(Some(&peer)).take_over(&aside);
                Some(Handshaken { io: tls.into(), alpn, peer })
            }
            Err(error) => {
                failed(error.reason(), &error);
                None
            }
        }
    }

    fn failed(&self, from: IpAddr, reason: &'static str, error: &dyn fmt::Display) {
        self.metrics.handshake(Direction::Inbound, Handshake::Failed(reason));
        tracing::debug!(%from, %error, "handshake with a peer failed");
        if let Some(left_out) = self.log.due(Instant::now()) {
            tracing::warn!(%from, %error, left_out, "handshake with a peer failed");
        }
    }
}
