//! Connections whose bytes are not read.

use super::Connection;
use crate::{
    http::tunnel, identity::Alpn, listen::io::Io, outcome::Failure, record::access::ConnectionLine, upstream::Pending,
};
use std::{io, net::SocketAddr};
use tokio::time::Instant;

/// Endpoints that a connection is tried at.
const ATTEMPTS: usize = 4;

/// A connection to an endpoint.
pub(super) struct Opened {
    pub(super) server: Io,
    address: SocketAddr,
    /// Counts against the endpoint while the connection is open.
    _pending: Pending,
}

impl AsMut<Io> for Opened {
    fn as_mut(&mut self) -> &mut Io {
        &mut self.server
    }
}

/// Serves a client's connection by one to an endpoint.
pub(super) async fn serve(connection: &Connection, client: &mut Io) {
    match open(connection).await {
        Some(opened) => relay(connection, client, opened).await,
        None => broke(client, &io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Serves a client's connection by one that is open.
pub(super) async fn relay(connection: &Connection, client: &mut Io, mut opened: Opened) {
    if let Some(conversation) = &connection.conversation {
        let mut line = ConnectionLine::begin(conversation, opened.server.record().labels());
        line.connected(opened.address);
        client.write_as(line);
    }
    tunnel::between(client, &mut opened.server).await;
}

/// Ends a client's connection for which there is no server: it is reset, as if the server had done so.
pub(super) fn broke(client: &Io, error: &io::Error) {
    client.record().broke(error);
    client.reset_on_close();
}

/// A connection to an endpoint of the destination, to another if one cannot be reached.
pub(super) async fn open(connection: &Connection) -> Option<Opened> {
    let Connection { worker, target, .. } = connection;
    let plan = target.plan();
    let mut failure = Failure::NoEndpoints;
    let mut tried = Vec::new();
    for _ in 0..ATTEMPTS {
        let start = Instant::now();
        let Some(candidate) = target.pick(&tried, start) else { break };
        let pending = candidate.pending();
        match candidate.connections.open(Alpn::Tcp).await {
            Ok(server) => {
                let now = Instant::now();
                candidate.answered(now - start, now);
                return Some(Opened { server, address: candidate.address(), _pending: pending });
            }
            Err(failed) => {
                candidate.failed(Instant::now());
                failure = failed;
                tried.push(candidate.address());
            }
        }
    }
    worker.reports.report(failure, &plan.object, target.address());
    if let Some(conversation) = &connection.conversation {
        conversation.unserved(plan.accepted.labels(), failure);
    }
    None
}
