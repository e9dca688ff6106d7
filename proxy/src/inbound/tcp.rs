//! Connections whose bytes are not read.

use super::{Connection, Worker, admit::Permit, application::Application};
use crate::{http::tunnel, listen::io::Io, outcome::Failure, record::access::ConnectionLine};
use std::io;

/// Serves a client's connection by one to the application.
pub(super) async fn serve(connection: &Connection, permit: Permit, client: &mut Io) {
    match open(&connection.worker, &connection.application, permit).await {
        Ok(server) => relay(connection, client, server).await,
        Err(failure) => {
            if let Some(conversation) = &connection.conversation {
                conversation.unserved(client.record().labels(), failure);
            }
            broke(client, &io::ErrorKind::ConnectionRefused.into());
        }
    }
}

/// Serves a client's connection by one that is open.
pub(super) async fn relay(connection: &Connection, client: &mut Io, mut server: Io) {
    if let Some(conversation) = &connection.conversation {
        server.write_as(ConnectionLine::begin(conversation, client.record().labels()));
    }
    tunnel::between(client, &mut server).await;
}

/// Ends a client's connection that leads nowhere: it is reset, as the application's host would do.
pub(super) fn broke(client: &Io, error: &io::Error) {
    client.record().broke(error);
    client.reset_on_close();
}

/// A connection to the application.
///
/// # Errors
/// It cannot be opened; which was reported.
pub(super) async fn open(worker: &Worker, application: &Application, permit: Permit) -> Result<Io, Failure> {
    let opened = application.open(permit).await;
    if let Err(failure) = &opened {
        worker.reports.report(*failure, &worker.object(), application.address());
    }
    opened
}
