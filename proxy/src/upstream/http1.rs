//! HTTP/1.1 connections to one address, one request at a time on each.
//!
//! A connection is put back when its response has ended. It may not be ready by then, for its own task has yet to see
//! the end, or an early answer left a request's body half sent; so one is taken only if it is ready, the latest first,
//! so that the others can grow old and be closed.

use super::{
    connect,
    connections::{Connections, Lease, Unsent, failure},
};
use crate::{
    http::{body::RequestBody, io::Counted, limits},
    outcome::Failure,
};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;
use std::{cell::RefCell, rc::Rc, time::Duration};
use tokio::time::Instant;

/// Most idle connections to one address; more are closed, the oldest first.
const MOST_IDLE: usize = 256;

/// Sends requests on one connection.
pub(crate) type Sender = SendRequest<RequestBody>;

/// Connections that wait for the next request, the latest last.
#[derive(Debug, Default)]
pub(crate) struct Idle(RefCell<Vec<(Instant, Sender)>>);

impl Idle {
    pub(super) fn put(&self, sender: Sender, now: Instant) {
        let mut idle = self.0.borrow_mut();
        if idle.len() == MOST_IDLE {
            idle.remove(0);
        }
        idle.push((now, sender));
    }

    fn take(&self) -> Option<Sender> {
        let mut idle = self.0.borrow_mut();
        idle.retain(|(_, sender)| !sender.is_closed());
        let latest = idle.iter().rposition(|(_, sender)| sender.is_ready())?;
        Some(idle.remove(latest).1)
    }

    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Closes what was put back more than `timeout` ago; when the next one will have been.
    pub(super) fn expire(&self, now: Instant, timeout: Duration) -> Option<Instant> {
        let mut idle = self.0.borrow_mut();
        idle.retain(|(since, _)| now < *since + timeout);
        idle.first().map(|(since, _)| *since + timeout)
    }
}

pub(super) async fn send(
    connections: &Rc<Connections>,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), Unsent> {
    while let Some(mut sender) = connections.http1.take() {
        match sender.try_send_request(request).await {
            Ok(response) => return Ok((response, Lease::Http1(sender, connections.clone()))),
            Err(mut error) => match error.take_message() {
                // Closed by the server while it was idle: the next one.
                Some(unsent) => request = unsent,
                None => return Err(Unsent { failure: failure(error.error()), request: None }),
            },
        }
    }
    let mut sender = match open(connections).await {
        Ok(sender) => sender,
        Err(failure) => return Err(Unsent { failure, request: Some(request) }),
    };
    match sender.try_send_request(request).await {
        Ok(response) => Ok((response, Lease::Http1(sender, connections.clone()))),
        Err(mut error) => Err(match error.take_message() {
            Some(request) => Unsent { failure: Failure::ConnectionLost, request: Some(request) },
            None => Unsent { failure: failure(error.error()), request: None },
        }),
    }
}

async fn open(connections: &Connections) -> Result<Sender, Failure> {
    let (stream, record) =
        connect(connections.address(), connections.connector.connect_timeout, &connections.series).await?;
    let mut builder = Builder::new();
    builder.preserve_header_case(true).max_buf_size(limits::HEAD).max_header_size(limits::HEAD);
    let (sender, connection) =
        builder.handshake(TokioIo::new(Counted { stream, record })).await.map_err(|_| Failure::ConnectionLost)?;
    let address = connections.address();
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%address, %error, "HTTP/1 connection to server ended");
        }
    });
    Ok(sender)
}
