//! What follows when a connection becomes something else: bytes between client and server.

use super::io::Counted;
use crate::{
    listen::relay::{Side, Tally, relay},
    record::tcp::ConnectionRecord,
};
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;

/// The two ends of a relay as metrics see them.
pub(crate) struct Records<'r> {
    pub(crate) client: &'r ConnectionRecord,
    pub(crate) server: &'r ConnectionRecord,
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

/// Waits until both connections have been handed over, and relays until both directions have ended.
///
/// # Errors
/// A connection was not handed over, or broke.
pub(crate) async fn tunnel(client: OnUpgrade, server: OnUpgrade) -> io::Result<()> {
    let (client, server) = futures::future::try_join(client, server).await.map_err(io::Error::other)?;
    let (mut client, mut server) = (connection(client)?, connection(server)?);
    let Counted { stream: client_stream, record: client_record } = client.io.inner_mut();
    let Counted { stream: server_stream, record: server_record } = server.io.inner_mut();
    let records = Records { client: client_record, server: server_record };
    let ended = relay(
        Side { stream: client_stream, read_already: client.read_buf },
        Side { stream: server_stream, read_already: server.read_buf },
        &records,
    )
    .await;
    if let Err(error) = &ended {
        records.client.broke(error);
        records.server.broke(error);
    }
    ended
}

fn connection(upgraded: Upgraded) -> io::Result<Parts<TokioIo<Counted>>> {
    upgraded.downcast().map_err(|_| io::Error::other("an HTTP/2 stream cannot be taken over"))
}
