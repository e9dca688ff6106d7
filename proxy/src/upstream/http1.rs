//! HTTP/1.1 connections to one address, one request at a time on each.
//!
//! A connection is put back when its response has ended, and its request too: where the answer came first, what is left of
//! the request is sent in a task of its own, for as long as the server takes it and the client has more. The latest is taken
//! first, so that the others can grow old and be closed. One that its server has closed meanwhile is found out when it is
//! taken, or when it is looked after.

use super::connections::{Connections, Lease};
use crate::{
    http::{
        http1::{Body, Client, SendError},
        incoming::Incoming,
        limits,
        outgoing::Outgoing,
    },
    identity::Alpn,
    listen::witness::Witness,
    outcome::Failure,
};
use http::Response;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

/// Most idle connections to one address; more are closed, the oldest first.
const MOST_IDLE: usize = 256;

/// Sends requests on one connection.
#[derive(Debug)]
pub(crate) struct Sender {
    client: Client,
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
        self.0.borrow_mut().pop().map(|(_, sender)| sender)
    }

    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Closes what was put back more than `timeout` ago, and what its server has closed; when the next one will have been.
    pub(super) fn expire(&self, now: Instant, timeout: Duration) -> Option<Instant> {
        let mut idle = self.0.borrow_mut();
        idle.retain(|(since, sender)| now < *since + timeout && sender.client.is_open());
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
    sender: Sender,
    outgoing: &mut Outgoing,
) -> Result<(Response<Incoming>, Lease), Failure> {
    if !sender.client.is_open() {
        return Err(Failure::ConnectionLost);
    }
    let body = outgoing.body().ok_or(Failure::ConnectionLost)?;
    let before = sender.witness.written();
    match sender.client.send(outgoing.head(), body, |response| outgoing.inform(response)).await {
        Ok(response) => {
            let response = response.map(|body| Incoming::Http1(Body::Response(body)));
            Ok((response, Lease::Http1(sender, connections.clone())))
        }
        Err(SendError::Request) => Err(Failure::RequestBroken),
        Err(_) if sender.witness.was_refused() => Err(Failure::TlsFailed),
        // It never arrived.
        Err(_) if sender.witness.nothing_arrived_since(before) => Err(Failure::ConnectionLost),
        Err(SendError::Response(_)) => Err(Failure::ResponseInvalid),
        Err(SendError::Broken(_)) => Err(Failure::ResponseBroken),
    }
}

async fn open(connections: &Connections) -> Result<Sender, Failure> {
    // In a box, which is gone once it is open.
    let mut io = Box::pin(connections.open(Alpn::Http1)).await?;
    let witness = io.witnessed();
    Ok(Sender { client: Client::new(io), witness })
}

impl Sender {
    /// Whether it can carry another request.
    pub(super) fn can_go_on(&self) -> bool {
        self.client.can_go_on()
    }
}

/// The response on `sender` has ended.
pub(super) fn finish(sender: Sender, connections: Rc<Connections>) {
    if sender.client.has_sent() {
        connections.http1_idle(sender);
    } else if sender.client.wants_rest() {
        tokio::task::spawn_local(async move {
            if sends_rest(&sender).await {
                connections.http1_idle(sender);
            }
        });
    }
}

/// Sends what is left of a request whose answer has ended; whether all of it went. Not if nothing did for a while: neither
/// connection is to be held by what nobody reads or writes.
async fn sends_rest(sender: &Sender) -> bool {
    loop {
        let before = sender.witness.written();
        match timeout(limits::STALLED, sender.client.rest()).await {
            Ok(()) => return sender.client.has_sent(),
            Err(_) if sender.witness.written() == before => return false,
            Err(_) => {}
        }
    }
}
