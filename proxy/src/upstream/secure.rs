//! Securing a connection: who has to be at its other end, and the handshake in which that is proved.
//!
//! There is no way back from here to plaintext. What a failed handshake leads to is an error, whatever policy says: an attacker
//! could make any handshake fail.

use crate::{
    identity::{Alpn, Credentials, Identity, TlsError},
    listen::io::{Counted, Io},
    outcome::{Failure, Seldom},
    record::{Metrics, labels::Direction, metrics::Handshake},
};
use conduit_model::SpiffeId;
use std::{net::SocketAddr, rc::Rc, sync::Arc};
use tokio::time::Instant;

/// How connections to an address are secured.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    /// Not at all.
    Plaintext,
    /// By mutual TLS, with nobody but this workload.
    Mtls(Rc<Handshakes>, SpiffeId),
    /// Policy requires what the address does not take: there are none.
    Refused,
}

/// What handshakes with peers take, shared by the connections of a worker.
#[derive(Debug)]
pub(crate) struct Handshakes {
    identity: Arc<Identity>,
    metrics: Arc<Metrics>,
    log: Seldom,
}

impl Handshakes {
    pub(crate) fn new(identity: Arc<Identity>, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self { identity, metrics, log: Seldom::default() })
    }

    /// Who this proxy is.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What this proxy can prove now; asked before a connection is opened that would be of no use.
    ///
    /// # Errors
    /// It has no certificate, or one that is over.
    pub(super) fn credentials(&self) -> Result<Arc<Credentials>, Failure> {
        let credentials = self.identity.credentials().ok_or(Failure::IdentityMissing)?;
        credentials.check_own().map_err(|error| failure(&error))?;
        Ok(credentials)
    }

    /// Opens TLS on a connection to `address`, with nobody but `peer`.
    ///
    /// # Errors
    /// Either side did not prove itself.
    pub(super) async fn connect(
        &self,
        counted: Counted,
        address: SocketAddr,
        credentials: &Credentials,
        peer: &SpiffeId,
        alpn: Alpn,
    ) -> Result<Io, Failure> {
        let start = Instant::now();
        let error = match credentials.connect(counted, address.ip(), peer, alpn).await {
            Ok(tls) => {
                self.metrics.handshaken(Direction::Outbound, tls.handshake_kind(), start.elapsed());
                return Ok(tls.into());
            }
            Err(error) => error,
        };
        self.metrics.handshake(Direction::Outbound, Handshake::Failed(error.reason()));
        tracing::debug!(%address, expected = %peer, %error, "handshake with an endpoint failed");
        if let Some(left_out) = self.log.due(Instant::now()) {
            tracing::warn!(%address, expected = %peer, %error, left_out, "handshake with an endpoint failed");
        }
        Err(failure(&error))
    }
}

fn failure(error: &TlsError) -> Failure {
    match error {
        TlsError::OwnCertificateExpired => Failure::IdentityExpired,
        TlsError::WrongPeer { .. }
        | TlsError::PeerCertificate(_)
        | TlsError::NoMeshAlpn
        | TlsError::Handshake(_)
        | TlsError::Timeout => Failure::TlsFailed,
    }
}
