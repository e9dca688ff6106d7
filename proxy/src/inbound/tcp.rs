//! Connections whose bytes are not read.

use super::{Worker, admit::Permit, application::Application};
use crate::{http::tunnel, listen::io::Io, outcome::Failure};
use std::io;

/// Serves a client's connection by one to the application.
pub(super) async fn serve(worker: &Worker, application: &Application, permit: Permit, client: &mut Io) {
    match open(worker, application, permit).await {
        Ok(mut server) => tunnel::between(client, &mut server).await,
        Err(_) => broke(client, &io::ErrorKind::ConnectionRefused.into()),
    }
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
