//! Connections whose bytes are not read.

use super::{Address, Worker};
use crate::{
    http::{io::Counted, tunnel},
    listen::socket,
    upstream::connect,
};
use std::io;

/// Serves a client's connection by one to the application.
pub(super) async fn serve(worker: &Worker, address: &Address, client: &mut Counted) {
    match open(worker, address).await {
        Some(mut server) => tunnel::between(client, &mut server).await,
        None => broke(client, &io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Ends a client's connection for which there is no application: it is reset, as the application's host would do.
pub(super) fn broke(client: &Counted, error: &io::Error) {
    client.record.broke(error);
    // The stream is about to be dropped; if it is broken already there is nothing to reset.
    let _ = socket::reset_on_close(&client.stream);
}

/// A connection to the application.
pub(super) async fn open(worker: &Worker, address: &Address) -> Option<Counted> {
    let connections = &address.connections;
    match connect(connections.address(), worker.connector.connect_timeout, connections.series()).await {
        Ok((stream, record)) => Some(Counted::new(stream, record)),
        Err(failure) => {
            worker.reports.report(failure, &worker.object(), connections.address());
            None
        }
    }
}
