//! Connections whose bytes are not read.

use super::{Address, Worker};
use crate::{
    http::tunnel,
    listen::io::{Counted, Io},
    upstream::connect,
};
use std::io;

/// Serves a client's connection by one to the application.
pub(super) async fn serve(worker: &Worker, address: &Address, client: &mut Io) {
    match open(worker, address).await {
        Some(mut server) => tunnel::between(client, &mut server).await,
        None => broke(client, &io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Ends a client's connection for which there is no application: it is reset, as the application's host would do.
pub(super) fn broke(client: &Io, error: &io::Error) {
    client.record().broke(error);
    client.reset_on_close();
}

/// A connection to the application.
pub(super) async fn open(worker: &Worker, address: &Address) -> Option<Io> {
    let connections = &address.connections;
    match connect(connections.address(), worker.connector.connect_timeout, connections.series()).await {
        Ok((stream, record)) => Some(Counted::new(stream, record).into()),
        Err(failure) => {
            worker.reports.report(failure, &worker.object(), connections.address());
            None
        }
    }
}
