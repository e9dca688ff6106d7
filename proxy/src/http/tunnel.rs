//! Bytes between a client and a server that are not read, with their records: a connection that never was HTTP, or one
//! that has become something else.

use super::io::Counted;
use crate::{
    listen::relay::{Side, Tally, relay},
    record::tcp::ConnectionRecord,
};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;

/// The two ends of a relay as metrics see them.
struct Records<'r> {
    client: &'r ConnectionRecord,
    server: &'r ConnectionRecord,
}

impl Tally for Records<'_> {
    fn sent(&self, bytes: usize) {
        self.client.read(bytes);
        self.server.wrote(bytes);
    }

    fn received(&self, bytes: usize) {
        self.server.read(bytes);
        self.client.wrote(bytes);
    }
}

/// Relays between two connections of which nothing was read, until both directions have ended.
pub(crate) async fn between(client: &mut Counted, server: &mut Counted) {
    // A connection that breaks is in its record.
    let _ = relayed((client, Bytes::new()), (server, Bytes::new())).await;
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
    relayed((client.io.inner_mut(), client.read_buf), (server.io.inner_mut(), server.read_buf)).await
}

fn connection(upgraded: Upgraded) -> io::Result<Parts<TokioIo<Counted>>> {
    upgraded.downcast().map_err(|_| io::Error::other("an HTTP/2 stream cannot be taken over"))
}

/// Relays between two connections, each with what was read from it before.
async fn relayed(client: (&mut Counted, Bytes), server: (&mut Counted, Bytes)) -> io::Result<()> {
    let ((client, from_client), (server, from_server)) = (client, server);
    let records = Records { client: &client.record, server: &server.record };
    let ended = relay(
        Side { stream: &mut client.stream, read_already: from_client },
        Side { stream: &mut server.stream, read_already: from_server },
        &records,
    )
    .await;
    if let Err(error) = &ended {
        records.client.broke(error);
        records.server.broke(error);
    }
    ended
}
