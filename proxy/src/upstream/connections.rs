//! The connections to one address: HTTP/1.1 connections that wait for the next request, and HTTP/2 connections that
//! carry many. Each is driven by a task of its own, which ends with the connection.

use super::{
    connect::{Connector, connect},
    http1, http2,
    secure::Security,
};
use crate::{
    http::{body::Finish, incoming::Incoming, outgoing::Outgoing},
    identity::Alpn,
    listen::io::{Counted, Io},
    outcome::Failure,
    record::tcp::TcpSeries,
};
use http::{Response, Version};
use std::{
    cell::Cell,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
};
use tokio::time::Instant;

/// The connections of one worker to one address.
#[derive(Debug)]
pub(crate) struct Connections {
    address: SocketAddr,
    connector: Connector,
    series: Arc<TcpSeries>,
    security: Security,
    pub(super) http1: http1::Idle,
    pub(super) http2: http2::Multiplexed,
    /// No request is to come any more.
    retired: Cell<bool>,
    reaping: Cell<bool>,
}

/// A connection, or a stream of one, that is in use until the response has ended.
#[derive(Debug)]
pub(crate) enum Lease {
    /// The whole connection, which can be used again.
    Http1(http1::Sender, Rc<Connections>),
    /// One stream; its connection knows that it ended when this is dropped.
    Http2(http2::Stream),
}

impl Connections {
    /// Those to an address that gets plaintext.
    pub(crate) fn new(address: SocketAddr, connector: Connector, series: Arc<TcpSeries>) -> Rc<Self> {
        Self::secured(address, connector, series, Security::Plaintext)
    }

    /// Those to an address that gets what `security` says.
    pub(crate) fn secured(
        address: SocketAddr,
        connector: Connector,
        series: Arc<TcpSeries>,
        security: Security,
    ) -> Rc<Self> {
        Rc::new(Self {
            address,
            connector,
            series,
            security,
            http1: http1::Idle::default(),
            http2: http2::Multiplexed::default(),
            retired: Cell::new(false),
            reaping: Cell::new(false),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The series that count connections to the address.
    pub(crate) fn series(&self) -> &Arc<TcpSeries> {
        &self.series
    }

    /// Whether whoever answers has proved to be the address's workload, and speaks as its proxy.
    pub(crate) fn are_verified(&self) -> bool {
        matches!(self.security, Security::Mtls(..))
    }

    /// Whether there are none, for policy requires what the address does not take.
    pub(super) fn are_refused(&self) -> bool {
        matches!(self.security, Security::Refused)
    }

    /// Opens a connection that is to carry `alpn`.
    ///
    /// # Errors
    /// How it failed; in every case no application has seen anything.
    pub(crate) async fn open(&self, alpn: Alpn) -> Result<Io, Failure> {
        let counted = async || {
            let (stream, record) = connect(self.address, self.connector.connect_timeout, &self.series).await?;
            Ok(Counted::new(stream, record))
        };
        match &self.security {
            Security::Plaintext => counted().await.map(Io::from),
            Security::Mtls(handshakes, peer) => {
                let credentials = handshakes.credentials()?;
                handshakes.connect(counted().await?, self.address, &credentials, peer, alpn).await
            }
            Security::Refused => Err(Failure::TlsUnavailable),
        }
    }

    /// Sends `request` on a connection of its version, opening one if need be. Where it did not arrive because the
    /// connection was at its end, it is sent on another.
    ///
    /// # Errors
    /// There is no response. The failure's row says whether the request may be sent to another address.
    pub(crate) async fn send(self: &Rc<Self>, request: &mut Outgoing) -> Result<(Response<Incoming>, Lease), Failure> {
        match request.version() {
            Version::HTTP_2 => http2::send(self, request).await,
            _ => http1::send(self, request).await,
        }
    }

    /// Closes what is idle, and what is in use when its use ends.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.http1.clear();
        self.http2.clear();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Closes what has been idle for too long, until nothing is idle.
    pub(super) fn reap_later(self: &Rc<Self>) {
        if !self.reaping.replace(true) {
            tokio::task::spawn_local(reap(Rc::downgrade(self)));
        }
    }

    /// Closes what expired before `now`; when the next one does.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let of_http1 = self.http1.expire(now, self.connector.idle_timeout);
        let of_http2 = self.http2.expire(now);
        of_http1.into_iter().chain(of_http2).min()
    }
}

async fn reap(connections: Weak<Connections>) {
    loop {
        let Some(held) = connections.upgrade() else { return };
        let Some(next) = held.expire(Instant::now()) else {
            held.reaping.set(false);
            return;
        };
        drop(held);
        tokio::time::sleep_until(next).await;
    }
}

impl Finish for Lease {
    fn finish(self) {
        match self {
            Self::Http1(sender, connections) => http1::finish(sender, connections),
            Self::Http2(stream) => drop(stream),
        }
    }
}

impl Connections {
    /// Keeps a connection for the next request, if it can carry one.
    pub(super) fn http1_idle(self: &Rc<Self>, sender: http1::Sender) {
        if !self.is_retired() && sender.can_go_on() {
            self.http1.put(sender, Instant::now());
            self.reap_later();
        }
    }
}
