//! Connections whose bytes are not read.

use super::Connection;
use crate::{
    http::{io::Counted, tunnel},
    listen::socket,
    outcome::Failure,
    upstream::{Pending, connect},
};
use std::io;
use tokio::{net::TcpStream, time::Instant};

/// Endpoints that a connection is tried at.
const ATTEMPTS: usize = 4;

/// A connection to an endpoint.
pub(super) struct Opened {
    pub(super) server: Counted,
    /// Counts against the endpoint while the connection is open.
    _pending: Pending,
}

impl AsRef<TcpStream> for Opened {
    fn as_ref(&self) -> &TcpStream {
        &self.server.stream
    }
}

/// Serves a client's connection by one to an endpoint.
pub(super) async fn serve(connection: &Connection, client: &mut Counted) {
    match open(connection).await {
        Some(mut opened) => tunnel::between(client, &mut opened.server).await,
        None => broke(client, &io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Ends a client's connection for which there is no server: it is reset, as if the server had done so.
pub(super) fn broke(client: &Counted, error: &io::Error) {
    client.record.broke(error);
    // The stream is about to be dropped; if it is broken already there is nothing to reset.
    let _ = socket::reset_on_close(&client.stream);
}

/// A connection to an endpoint of the destination, to another if one cannot be reached.
pub(super) async fn open(connection: &Connection) -> Option<Opened> {
    let Connection { worker, target, .. } = connection;
    let plan = target.plan();
    let mut failure = Failure::NoEndpoints;
    let mut tried = Vec::new();
    for _ in 0..ATTEMPTS {
        let start = Instant::now();
        let Some(candidate) = target.pick(&plan, &tried, start) else { break };
        let pending = candidate.pending();
        let connections = &candidate.connections;
        match connect(candidate.address(), worker.connector.connect_timeout, connections.series()).await {
            Ok((stream, record)) => {
                let now = Instant::now();
                candidate.answered(now - start, now);
                return Some(Opened { server: Counted::new(stream, record), _pending: pending });
            }
            Err(failed) => {
                candidate.failed(Instant::now());
                failure = failed;
                tried.push(candidate.address());
            }
        }
    }
    worker.reports.report(failure, &plan.object, target.address());
    None
}
