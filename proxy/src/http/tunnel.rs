//! Bytes between a client and a server that are not read, with their records: a connection that never was HTTP, or one
//! that has become something else.

use super::{http1, incoming::Incoming};
use crate::listen::{
    io::Io,
    relay::{Side, relay},
};
use bytes::Bytes;
use http::{Request, Response};
use std::io;
use tokio::sync::oneshot;

/// A connection that has become something else.
#[derive(Debug)]
pub(crate) enum Upgraded {
    /// A whole connection, with what was read from it beyond the head.
    Http1 { io: Box<Io>, read_already: Bytes },
}

/// Gives away a connection that has become something else.
#[derive(Debug)]
pub(crate) struct Grant(oneshot::Sender<Upgraded>);

/// Waits for a connection to become something else.
#[derive(Debug)]
pub(crate) struct Granted(oneshot::Receiver<Upgraded>);

impl Grant {
    /// To whoever waits for it; if nobody does, the connection is closed.
    pub(crate) fn give(self, upgraded: Upgraded) {
        let _ = self.0.send(upgraded);
    }
}

impl Granted {
    async fn connection(self) -> io::Result<Upgraded> {
        self.0.await.map_err(|_| io::Error::other("the connection was not handed over"))
    }
}

/// Relays between two connections of which nothing was read, until both directions have ended.
pub(crate) async fn between(client: &mut Io, server: &mut Io) {
    let unread = |io| Side { io, read_already: Bytes::new() };
    // A connection that breaks is in its record.
    let _ = relay(unread(client), unread(server)).await;
}

/// The connection of a client, once its request has been granted what it asks for.
pub(crate) fn of_request(request: &mut Request<Incoming>) -> Granted {
    let (grant, granted) = oneshot::channel();
    if let Incoming::Http1(http1::Body::Request(body)) = request.body() {
        body.upgrade(Grant(grant));
    }
    Granted(granted)
}

/// The connection of a server that has granted what a request asked for.
pub(crate) fn of_response(response: &mut Response<Incoming>) -> Granted {
    let (grant, granted) = oneshot::channel();
    if let Incoming::Http1(http1::Body::Response(body)) = response.body_mut()
        && let Some(upgraded) = body.upgraded()
    {
        Grant(grant).give(upgraded);
    }
    Granted(granted)
}

/// Relays between two connections once both have been handed over, until both directions have ended; holds `held` as long.
pub(crate) fn take_over<H: 'static>(client: Granted, server: Granted, held: H) {
    tokio::task::spawn_local(async move {
        if let Err(error) = upgraded(client, server).await {
            tracing::debug!(%error, "upgraded connection ended");
        }
        drop(held);
    });
}

async fn upgraded(client: Granted, server: Granted) -> io::Result<()> {
    let (mut client, mut server) = futures::future::try_join(client.connection(), server.connection()).await?;
    relay(side(&mut client), side(&mut server)).await
}

fn side(upgraded: &mut Upgraded) -> Side<'_> {
    let Upgraded::Http1 { io, read_already } = upgraded;
    Side { io, read_already: std::mem::take(read_already) }
}
