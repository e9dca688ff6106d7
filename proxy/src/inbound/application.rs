//! The application at one of the pod's addresses, with the connections to it. There is no way to it without a [`Permit`].

use super::admit::Permit;
use crate::{
    http::{incoming::Incoming, outgoing::Outgoing},
    listen::io::{Counted, Io},
    outcome::Failure,
    record::tcp::TcpSeries,
    upstream::{Connections, Connector, Lease, connect},
};
use http::Response;
use std::{net::SocketAddr, rc::Rc, sync::Arc};

/// One address of the pod.
#[derive(Debug)]
pub(super) struct Application {
    connections: Rc<Connections>,
    connector: Connector,
}

impl Application {
    /// The application at `address`; connections to it are counted by `series`.
    pub(super) fn new(address: SocketAddr, connector: Connector, series: Arc<TcpSeries>) -> Rc<Self> {
        Rc::new(Self { connections: Connections::new(address, connector, series), connector })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.connections.address()
    }

    /// Counts the connections to it.
    pub(super) fn series(&self) -> &Arc<TcpSeries> {
        self.connections.series()
    }

    /// Sends a request that was permitted.
    ///
    /// # Errors
    /// There is no response.
    pub(super) async fn send(
        &self,
        _permit: Permit,
        request: &mut Outgoing,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        self.connections.send(request).await
    }

    /// Opens a connection for bytes that were permitted.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) async fn open(&self, _permit: Permit) -> Result<Io, Failure> {
        let (stream, record) = connect(self.address(), self.connector.connect_timeout, self.series()).await?;
        Ok(Counted::new(stream, record).into())
    }
}
