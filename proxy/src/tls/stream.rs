//! A connection under TLS, past its handshake.
//!
//! Its end is what the peer says (`close_notify`); a connection that only stops has been cut (RFC 8446 section 6.1). What is
//! wrong with a record ends it with the alert that says so. Both directions end by themselves; an alert that tells of an
//! error ends both for good, once what was received before it is read (section 6.2).
//!
//! Both directions are polled by one task: reading may write what is left to be written, and then wakes who reads.

use super::{
    buffer,
    messages::{Asked, Messages, Session, tls13},
    received::{MOST_SLICES, Opened, Received},
    record::{MOST_PLAIN, Opener, Sealer},
    sealed::Sealed,
};
use futures::FutureExt;
use rustls::{
    AlertDescription, ContentType, Error, ExtractedSecrets, HandshakeKind, InvalidMessage, PeerMisbehaved,
    SupportedCipherSuite, crypto::cipher::OutboundChunks,
};
use std::{
    fmt, io,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Records in a row without data that a peer may send: what else it has to say is little, and costs more than it.
const MOST_WITHOUT_DATA: u8 = 32;

/// A connection under TLS, past its handshake.
pub struct TlsStream<S> {
    io: S,
    session: Session,
    kind: Option<HandshakeKind>,
    opener: Opener,
    sealer: Sealer,
    received: Received,
    sealed: Sealed,
    messages: Messages,
    without_data: u8,
    /// The peer waits for this side's next key.
    asked: bool,
    /// The peer has said that it sends no more.
    peer_ended: bool,
    /// This side has said so, or nobody would hear it.
    ended: bool,
    /// What was wrong: nothing is opened after it.
    broken: Option<Box<Error>>,
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<S> TlsStream<S> {
    /// What a handshake leads to; `early` came after it.
    pub(super) fn new(
        io: S,
        suite: SupportedCipherSuite,
        secrets: ExtractedSecrets,
        session: Session,
        kind: Option<HandshakeKind>,
        early: Vec<u8>,
    ) -> Result<Self, Error> {
        let suite = tls13(suite)?;
        Ok(Self {
            io,
            session,
            kind,
            opener: Opener::new(suite, secrets.rx)?,
            sealer: Sealer::new(suite, secrets.tx)?,
            received: Received::with(early),
            sealed: Sealed::default(),
            messages: Messages::default(),
            without_data: 0,
            asked: false,
            peer_ended: false,
            ended: false,
            broken: None,
        })
    }

    /// What is below.
    pub fn get_ref(&self) -> &S {
        &self.io
    }

    /// What is below.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// Whether the handshake was in full, or resumed a session.
    pub fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.kind
    }

    /// The beginning of what [`TlsStream::poll_fill_buf`] has made ready.
    pub(crate) fn slices<'s>(&'s self, slices: &mut [IoSlice<'s>; MOST_SLICES]) -> usize {
        self.received.slices(slices)
    }

    /// Opens all records that have come, and acts on what is no data.
    fn open(&mut self) -> Result<(), Error> {
        while !self.peer_ended
            && let Some(opened) = self.received.open(&mut self.opener)?
        {
            match opened {
                Opened::Data(_) | Opened::Nothing if self.messages.is_unfinished() => {
                    return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
                }
                Opened::Data(data) => {
                    self.without_data = 0;
                    self.received.keep(data);
                    continue;
                }
                Opened::Nothing => {}
                Opened::Alert(alert) => self.peer_ended = heard(alert)?,
                Opened::Messages(bytes) => {
                    let asked = self.messages.take(bytes, &mut self.session, &mut self.opener)?;
                    self.asked |= asked == Asked::NextKey;
                }
            }
            self.without_data += 1;
            if self.without_data > MOST_WITHOUT_DATA {
                return Err(PeerMisbehaved::TooManyEmptyFragments.into());
            }
        }
        if self.peer_ended {
            self.received.end();
        }
        Ok(())
    }

    /// Takes the next key where the peer asked for it. Not while something is left to be written: a peer that asks on and on
    /// and reads nothing is answered once.
    fn answer(&mut self) -> Result<(), Error> {
        if self.asked && !self.ended && self.sealed.is_empty() {
            self.sealed.push(self.session.renew(&mut self.sealer)?);
            self.asked = false;
        }
        Ok(())
    }

    /// Seals what `bytes` start with: how many of them.
    fn seal(&mut self, bytes: OutboundChunks<'_>) -> Result<usize, Error> {
        let (mut rest, _) = bytes.split_at(buffer::PLAIN);
        let length = rest.len();
        while !rest.is_empty() {
            if self.sealer.is_worn() {
                self.sealed.push(self.session.renew(&mut self.sealer)?);
            }
            let (record, after) = rest.split_at(MOST_PLAIN);
            self.sealed.push(self.sealer.seal(ContentType::ApplicationData, record)?);
            rest = after;
        }
        Ok(length)
    }

    /// Has the key sealed as much as it should.
    #[cfg(test)]
    pub(super) fn wear(&mut self) {
        self.sealer.wear();
    }

    /// Takes the next key without a word.
    #[cfg(test)]
    pub(super) fn renew_outbound(&mut self) {
        drop(self.session.renew(&mut self.sealer).unwrap());
    }

    /// Sends `message` in a record of its own.
    #[cfg(test)]
    pub(super) fn say(&mut self, kind: ContentType, message: &[u8]) {
        let record = self.sealer.seal(kind, OutboundChunks::Single(message)).unwrap();
        self.sealed.push(record);
    }

    fn alert(&mut self, level: u8, description: AlertDescription) -> Result<(), Error> {
        let alert = [level, u8::from(description)];
        let record = self.sealer.seal(ContentType::Alert, OutboundChunks::Single(&alert))?;
        self.sealed.push(record);
        self.ended = true;
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Waits until there is something to be read, or the peer has ended.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.received.is_opened() && !self.peer_ended {
            if let Some(error) = &self.broken {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, Error::clone(error))));
            }
            if let Err(error) = self.open().and_then(|()| self.answer()) {
                self.fail(error, cx);
                continue;
            }
            if !self.sealed.is_empty() {
                // Whoever writes next hears of an error.
                let _ = self.sealed.poll_drain(Pin::new(&mut self.io), cx);
            }
            if self.received.is_opened() || self.peer_ended {
                break;
            }
            if ready!(self.received.poll_receive(Pin::new(&mut self.io), cx))? == 0 {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the peer ended TLS without close_notify");
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends both directions, and tells the peer what is wrong with what it sent, if that can be written at once.
    fn fail(&mut self, error: Error, cx: &mut Context<'_>) {
        let description = match &error {
            Error::AlertReceived(_) => None,
            Error::DecryptError => Some(AlertDescription::BadRecordMac),
            Error::PeerSentOversizedRecord => Some(AlertDescription::RecordOverflow),
            Error::InvalidMessage(_) => Some(AlertDescription::DecodeError),
            _ => Some(AlertDescription::UnexpectedMessage),
        };
        if let Some(description) = description
            && !self.ended
            && self.alert(FATAL, description).is_ok()
        {
            let _ = self.sealed.poll_drain(Pin::new(&mut self.io), cx);
        }
        self.ended = true;
        self.received.end();
        self.broken = Some(Box::new(error));
    }

    /// Ends a connection of whose peer it turned out after the handshake that it is none to speak with: says why, as far as
    /// that can be written at once.
    pub(crate) fn refuse(mut self, why: AlertDescription) {
        if self.alert(FATAL, why).is_ok() {
            let _ = self.flush().now_or_never();
        }
    }

    /// Takes no more than can be sealed while nothing is left to be written.
    fn poll_take(&mut self, cx: &mut Context<'_>, bytes: OutboundChunks<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.sealed.poll_drain(Pin::new(&mut self.io), cx))?;
        let taken = self.answer().and_then(|()| self.seal(bytes)).map_err(io::Error::other)?;
        match self.sealed.poll_drain(Pin::new(&mut self.io), cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }
}

const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// What an alert says (RFC 8446 section 6): whether it is the end.
fn heard(alert: &[u8]) -> Result<bool, Error> {
    let &[_, description] = alert else { return Err(InvalidMessage::MessageTooShort.into()) };
    match AlertDescription::from(description) {
        AlertDescription::CloseNotify => Ok(true),
        // The end follows.
        AlertDescription::UserCanceled => Ok(false),
        other => Err(Error::AlertReceived(other)),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncBufRead for TlsStream<S> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_ready(cx))?;
        Poll::Ready(Ok(this.received.first()))
    }

    fn consume(self: Pin<&mut Self>, bytes: usize) {
        self.get_mut().received.consume(bytes);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_ready(cx))?;
        while this.received.is_opened() && buf.remaining() > 0 {
            let first = this.received.first();
            let length = first.len().min(buf.remaining());
            buf.put_slice(&first[..length]);
            this.received.consume(length);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_take(cx, OutboundChunks::Single(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut chunks = [&[][..]; MOST_SLICES];
        for (chunk, buf) in chunks.iter_mut().zip(bufs) {
            *chunk = &**buf;
        }
        self.get_mut().poll_take(cx, OutboundChunks::new(&chunks[..bufs.len().min(MOST_SLICES)]))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.sealed.poll_drain(Pin::new(&mut this.io), cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ended {
            this.alert(WARNING, AlertDescription::CloseNotify).map_err(io::Error::other)?;
        }
        ready!(this.sealed.poll_drain(Pin::new(&mut this.io), cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
