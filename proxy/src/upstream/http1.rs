//! HTTP/1.1 connections to one address, one request at a time on each.
//!
//! A connection is put back when its response has ended. It may not be ready by then, for its own task has yet to see
//! the end, or an early answer left a request's body half sent; so one is taken only if it is ready, the latest first,
//! so that the others can grow old and be closed.

use super::connections::{Connections, Lease, failure};
use crate::{
    http::{body::RequestBody, incoming::Incoming, limits, outgoing::Outgoing},
    identity::Alpn,
    listen::witness::Witness,
    outcome::Failure,
};
use http::Response;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Most idle connections to one address; more are closed, the oldest first.
const MOST_IDLE: usize = 256;

/// Sends requests on one connection.
#[derive(Debug)]
pub(crate) struct Sender {
    requests: SendRequest<RequestBody>,
    witness: Arc<Witness>,
}

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
        idle.retain(|(_, sender)| !sender.requests.is_closed());
        let latest = idle.iter().rposition(|(_, sender)| sender.requests.is_ready())?;
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
    request: &mut Outgoing,
) -> Result<(Response<Incoming>, Lease), Failure> {
    while let Some(sender) = connections.http1.take() {
        match attempt(connections, sender, request).await {
            // Closed by the server while it was idle: the next one.
            Err(Failure::ConnectionLost) if request.can_be_sent_again() => {}
            ended => return ended,
        }
    }
    let sender = open(connections).await?;
    attempt(connections, sender, request).await
}

async fn attempt(
    connections: &Rc<Connections>,
    mut sender: Sender,
    request: &mut Outgoing,
) -> Result<(Response<Incoming>, Lease), Failure> {
    let request = request.next().ok_or(Failure::ConnectionLost)?;
    let before = sender.witness.written();
    match sender.requests.try_send_request(request).await {
        Ok(response) => Ok((response.map(Incoming::Http1), Lease::Http1(sender, connections.clone()))),
        Err(_) if sender.witness.was_refused() => Err(Failure::TlsFailed),
        // It never left, or it did and never arrived.
        Err(error) if error.message().is_some() || sender.witness.nothing_arrived_since(before) => {
            Err(Failure::ConnectionLost)
        }
        Err(error) => Err(failure(error.error())),
    }
}

async fn open(connections: &Connections) -> Result<Sender, Failure> {
    // In a box, which is gone once it is open.
    let mut io = Box::pin(connections.open(Alpn::Http1)).await?;
    let witness = io.witnessed();
    let mut builder = Builder::new();
    builder.preserve_header_case(true).max_buf_size(limits::HEAD).max_header_size(limits::HEAD);
    let (requests, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|_| Failure::ConnectionLost)?;
    let address = connections.address();
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%address, %error, "HTTP/1 connection to server ended");
        }
    });
    Ok(Sender { requests, witness })
}
