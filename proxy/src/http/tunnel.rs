//! Bytes between a client and a server that are not read, with their records: a connection that never was HTTP, or one
//! that has become something else.

use crate::listen::{
    io::Io,
    relay::{Side, relay},
};
use bytes::Bytes;
use http::{Request, Response};
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;

/// Relays between two connections of which nothing was read, until both directions have ended.
pub(crate) async fn between(client: &mut Io, server: &mut Io) {
    let unread = |io| Side { io, read_already: Bytes::new() };
    // A connection that breaks is in its record.
    let _ = relay(unread(client), unread(server)).await;
}

/// The connection of a client, once its request has been granted what it asks for.
pub(crate) fn of_request<B>(request: &mut Request<B>) -> OnUpgrade {
    hyper::upgrade::on(request)
}

/// The connection of a server that has granted what a request asked for.
pub(crate) fn of_response<B>(response: &mut Response<B>) -> OnUpgrade {
    hyper::upgrade::on(response)
}

/// Relays between two HTTP/1 connections once both have been handed over, until both directions have ended; holds
/// `held` as long.
pub(crate) fn take_over<H: 'static>(client: OnUpgrade, server: OnUpgrade, held: H) {
    tokio::task::spawn_local(async move {
        if let Err(error) = upgraded(client, server).await {
            tracing::debug!(%error, "upgraded connection ended");
        }
        drop(held);
    });
}

async fn upgraded(client: OnUpgrade, server: OnUpgrade) -> io::Result<()> {
    let (client, server) = futures::future::try_join(client, server).await.map_err(io::Error::other)?;
    let (mut client, mut server) = (connection(client)?, connection(server)?);
    relay(side(&mut client), side(&mut server)).await
}

fn connection(upgraded: Upgraded) -> io::Result<Parts<TokioIo<Io>>> {
    upgraded.downcast().map_err(|_| io::Error::other("an HTTP/2 stream cannot be taken over"))
}

fn side(parts: &mut Parts<TokioIo<Io>>) -> Side<'_> {
    Side { read_already: std::mem::take(&mut parts.read_buf), io: parts.io.inner_mut() }
}
