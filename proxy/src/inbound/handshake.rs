//! The handshake with a peer of the mesh, from its first byte: with it the peer proves who it is, and says what the
//! connection carries. Whoever cannot prove it gets nothing, plaintext neither.
//!
//! Anybody can begin a handshake, and one that does not go on takes 20 KB for ten seconds. So an address has a bound on those
//! that it begins at once; the next wait for a slot, with what they said left in the kernel.

use crate::{
    identity::{Alpn, HANDSHAKE_TIMEOUT, Identity, TlsError, VerifiedPeer},
    listen::io::{Counted, Io},
    outcome::{Failure, Seldom},
    record::{
        labels::Direction,
        metrics::{Handshake, Metrics},
        tcp::TcpSeries,
    },
};
use std::{
    cell::RefCell,
    collections::HashMap,
    fmt, io,
    net::IpAddr,
    sync::{Arc, Weak},
};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout},
};

/// Handshakes of one address on one worker at once. A pod that starts to call has as many of its connections opened within
/// a round trip.
const AT_ONCE: usize = 64;

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
    /// Of the addresses that have a handshake under way.
    slots: RefCell<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl Handshakes {
    pub(super) fn new(identity: Arc<Identity>, metrics: Arc<Metrics>) -> Self {
        Self { identity, metrics, log: Seldom::default(), slots: RefCell::default() }
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
        let slots = self.slots(from);
        let Ok(Ok(_slot)) = timeout(HANDSHAKE_TIMEOUT, slots.acquire()).await else {
            failed(TlsError::Timeout.reason(), &TlsError::Timeout);
            return None;
        };
        let Some(credentials) = self.identity.credentials() else {
            failed("no_certificate", &Failure::IdentityMissing);
            Io::from(counted).reset_on_close();
            return None;
        };
        let start = Instant::now();
        match credentials.accept(counted).await {
            Ok((mut tls, alpn, peer)) => {
                self.metrics.handshaken(Direction::Inbound, tls.handshake_kind(), start.elapsed());
                tls.get_mut().record = series(Some(&peer)).take_over(&aside);
                Some(Handshaken { io: tls.into(), alpn, peer })
            }
            Err(error) => {
                failed(error.reason(), &error);
                None
            }
        }
    }

    fn slots(&self, from: IpAddr) -> Arc<Semaphore> {
        let mut slots = self.slots.borrow_mut();
        if let Some(known) = slots.get(&from).and_then(Weak::upgrade) {
            return known;
        }
        if slots.len() == slots.capacity() {
            slots.retain(|_, slots| slots.strong_count() > 0);
        }
        let new = Arc::new(Semaphore::new(AT_ONCE));
        slots.insert(from, Arc::downgrade(&new));
        new
    }

    fn failed(&self, from: IpAddr, reason: &'static str, error: &dyn fmt::Display) {
        self.metrics.handshake(Direction::Inbound, Handshake::Failed(reason));
        tracing::debug!(%from, %error, "handshake with a peer failed");
        if let Some(left_out) = self.log.due(Instant::now()) {
            tracing::warn!(%from, %error, left_out, "handshake with a peer failed");
        }
    }
}
