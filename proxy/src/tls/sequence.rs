//! What bytes after a handshake are taken for, without keys and without a connection: how the fuzzer looks at the framing of
//! records and at the buffers that they are received in, below which there is only cryptography.

use super::{
    received::{MOST_SLICES, Opened, Received},
    record::Opener,
};
use rustls::{
    Error,
    crypto::cipher::{InboundOpaqueMessage, InboundPlainMessage, MessageDecrypter},
};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, ReadBuf};

/// What comes after the data that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The rest of a record, or another one.
    More,
    /// A record with an alert.
    Alert,
    /// One with messages of a handshake.
    Messages,
    /// What is no record that a peer may send.
    Fault,
}

/// The data of the records in `bytes`, up to the first that carries something else, and what that is. The bytes come in pieces
/// of at most `piece` bytes, and after each of them nothing comes for a while; as many are read at a time at most.
pub fn data(bytes: &[u8], piece: usize) -> (Vec<u8>, Next) {
    let (mut received, mut opener) = (Received::default(), Opener::with(Box::new(InPlain)));
    let mut io = Pieces { rest: bytes, piece: piece.max(1), pauses: false };
    let (mut cx, mut data) = (Context::from_waker(Waker::noop()), Vec::new());
    loop {
        let next = loop {
            match received.open(&mut opener) {
                Ok(Some(Opened::Data(range))) => received.keep(range),
                Ok(Some(Opened::Nothing)) => {}
                Ok(Some(Opened::Alert(_))) => break Next::Alert,
                Ok(Some(Opened::Messages(_))) => break Next::Messages,
                Ok(None) => break Next::More,
                Err(_) => break Next::Fault,
            }
        };
        if next != Next::More {
            received.end();
        }
        while received.is_opened() {
            let mut slices = [IoSlice::new(&[]); MOST_SLICES];
            let shown = received.slices(&mut slices);
            let all = slices[..shown].iter().flat_map(|slice| slice.iter().copied());
            let before = data.len();
            data.extend(all.take(io.piece));
            received.consume(data.len() - before);
        }
        if next != Next::More || io.rest.is_empty() {
            return (data, next);
        }
        // Its errors are those of `Pieces`, which has none.
        let _ = received.poll_receive(Pin::new(&mut io), &mut cx);
    }
}

/// A protection that leaves everything as it is.
struct InPlain;

impl MessageDecrypter for InPlain {
    fn decrypt<'a>(&mut self, record: InboundOpaqueMessage<'a>, _: u64) -> Result<InboundPlainMessage<'a>, Error> {
        record.into_tls13_unpadded_message()
    }
}

struct Pieces<'b> {
    rest: &'b [u8],
    piece: usize,
    pauses: bool,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.pauses = !self.pauses;
        if self.pauses {
            return Poll::Pending;
        }
        let (now, later) = self.rest.split_at(self.piece.min(buf.remaining()).min(self.rest.len()));
        buf.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}
