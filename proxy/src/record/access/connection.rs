//! What a connection whose bytes are not read says of itself, until its line is written.

use super::{
    Conversation, Heard, TlsNames,
    line::{Fields, What},
};
use crate::record::labels::{Direction, Labels, Peer};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
};

/// Most bytes of a client that are kept until its hello has ended; as much as is read of one elsewhere.
const MOST_HELLO: usize = 17 * 1024;

/// A connection whose bytes are not read. Its line is written when it is dropped, which is when the connection is closed.
#[derive(Debug)]
pub(crate) struct ConnectionLine {
    conversation: Rc<Conversation>,
    /// At which end of the proxy its bytes are seen in the clear.
    seen_at: Peer,
    labels: Labels,
    endpoint: Option<SocketAddr>,
    received: Cell<u64>,
    sent: Cell<u64>,
    heard: RefCell<Hearing>,
    error: Cell<Option<&'static str>>,
}

/// What is known of what a client said first.
#[derive(Debug)]
enum Hearing {
    /// Nothing yet, or the beginning of a hello.
    So(Vec<u8>),
    Done(Option<TlsNames>),
}

impl ConnectionLine {
    /// Of a connection that is counted under `labels`.
    pub(crate) fn begin(conversation: &Rc<Conversation>, labels: &Labels) -> Box<Self> {
        Box::new(Self {
            conversation: conversation.clone(),
            seen_at: match conversation.direction {
                Direction::Outbound => Peer::Source,
                Direction::Inbound => Peer::Destination,
            },
            labels: labels.clone(),
            endpoint: None,
            received: Cell::default(),
            sent: Cell::default(),
            heard: RefCell::new(Hearing::So(Vec::new())),
            error: Cell::default(),
        })
    }

    /// It goes on to `endpoint`.
    pub(crate) fn connected(&mut self, endpoint: SocketAddr) {
        self.endpoint = Some(endpoint);
    }

    /// Bytes were read where it is seen. `read` can tell what those of a client begin.
    pub(crate) fn came(&self, bytes: &[u8], read: impl FnOnce(&[u8]) -> Heard) {
        match self.seen_at {
            Peer::Source => self.received(bytes, read),
            Peer::Destination => self.sent(bytes),
        }
    }

    /// Bytes were written where it is seen.
    pub(crate) fn went(&self, bytes: &[u8], read: impl FnOnce(&[u8]) -> Heard) {
        match self.seen_at {
            Peer::Source => self.sent(bytes),
            Peer::Destination => self.received(bytes, read),
        }
    }

    fn received(&self, bytes: &[u8], read: impl FnOnce(&[u8]) -> Heard) {
        self.received.set(self.received.get() + bytes.len() as u64);
        let mut hearing = self.heard.borrow_mut();
        let Hearing::So(before) = &mut *hearing else { return };
        let heard = if before.is_empty() {
            read(bytes)
        } else {
            before.extend_from_slice(bytes);
            read(before)
        };
        *hearing = match heard {
            Heard::Tls(names) => Hearing::Done(Some(names)),
            Heard::NotTls => Hearing::Done(None),
            Heard::Incomplete if before.len().max(bytes.len()) > MOST_HELLO => Hearing::Done(None),
            Heard::Incomplete if before.is_empty() => Hearing::So(bytes.to_vec()),
            Heard::Incomplete => return,
        };
    }

    fn sent(&self, bytes: &[u8]) {
        self.sent.set(self.sent.get() + bytes.len() as u64);
    }

    /// What went wrong, in one word; the first is what counts.
    pub(crate) fn failed(&self, error: &'static str) {
        self.error.set(self.error.get().or(Some(error)));
    }
}

impl Drop for ConnectionLine {
    fn drop(&mut self) {
        let names = match self.heard.get_mut() {
            Hearing::Done(names) => names.as_ref(),
            Hearing::So(_) => None,
        };
        self.conversation.write(Fields {
            endpoint: self.endpoint,
            what: What::Connection {
                protocol: if names.is_some() { "tls" } else { "opaque" },
                sni: names.and_then(|names| names.sni.as_deref()),
                alpn: names.map_or(&[], |names| &names.alpn),
                received_bytes: self.received.get(),
                sent_bytes: self.sent.get(),
                duration: self.conversation.start.elapsed(),
            },
            error: self.error.get(),
            labels: &[&self.labels],
        });
    }
}
