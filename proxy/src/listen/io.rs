//! A connection as the proxy holds it: TCP, whose bytes are counted as they pass the wire, and TLS above it where it has a
//! peer of the mesh.
//!
//! Counting and testifying happen below TLS, where the kernel's acknowledgements can be compared with what was written. What
//! the end of a connection proves is judged above it: under TLS only the peer itself can say that it has ended
//! (`close_notify`), while anybody on the way can send a FIN.

use super::{client_hello, socket, vanished::LookedAfter, witness::Witness};
use crate::{
    identity::refusal,
    record::{access::ConnectionLine, tcp::ConnectionRecord},
    tls::TlsStream,
};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A TCP connection and its record.
#[derive(Debug)]
pub(crate) struct Counted {
    /// First, so that it is over before the stream is closed.
    looked_after: LookedAfter,
    pub(crate) stream: TcpStream,
    pub(crate) record: ConnectionRecord,
    written: u64,
    /// Follows a connection on which requests are sent.
    witness: Option<Arc<Witness>>,
}

/// A connection that bytes can be read from and written to. One with TLS is past its handshake.
#[derive(Debug)]
pub(crate) enum Io {
    /// Nothing is above TCP.
    Plain(Counted),
    /// With a peer of the mesh.
    Tls(Box<TlsStream<Counted>>),
}

impl Counted {
    pub(crate) fn new(stream: TcpStream, record: ConnectionRecord) -> Self {
        Self { looked_after: LookedAfter::new(&stream), stream, record, written: 0, witness: None }
    }

    fn wrote(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        let bytes = result.map_err(|error| self.broke(error))?;
        self.record.wrote(bytes);
        self.written += bytes as u64;
        if let Some(witness) = &self.witness {
            witness.wrote(self.written);
        }
        Ok(bytes)
    }

    /// What `error` means, having put it down.
    fn broke(&self, error: io::Error) -> io::Error {
        let error = self.looked_after.explain(error);
        self.record.broke(&error);
        error
    }
}

impl Io {
    /// The TCP connection below.
    pub(crate) fn counted(&self) -> &Counted {
        match self {
            Self::Plain(counted) => counted,
            Self::Tls(tls) => tls.get_ref(),
        }
    }

    /// Has a witness follow the connection from now on.
    pub(crate) fn witnessed(&mut self) -> Arc<Witness> {
        let counted = match self {
            Self::Plain(counted) => counted,
            Self::Tls(tls) => tls.get_mut(),
        };
        counted.witness.insert(Arc::new(Witness::after(counted.written))).clone()
    }

    /// What passes is to be written about from now on, as `line`.
    pub(crate) fn write_as(&mut self, line: Box<ConnectionLine>) {
        match self {
            Self::Plain(counted) => counted.record.write_as(line),
            Self::Tls(tls) => tls.get_mut().record.write_as(line),
        }
    }

    /// The connection's record.
    pub(crate) fn record(&self) -> &ConnectionRecord {
        &self.counted().record
    }

    /// Closes with a reset when dropped. On a connection that is broken already there is nothing to reset.
    pub(crate) fn reset_on_close(&self) {
        let _ = socket::reset_on_close(&self.counted().stream);
    }

    /// Waits until there is something to be read, and shows its first bytes without taking them; none at the end.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) async fn peek(&mut self, window: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(counted) => counted.stream.peek(window).await,
            Self::Tls(tls) => peek(tls, window).await,
        }
    }

    fn stream(&mut self) -> Pin<&mut (dyn Stream + '_)> {
        match self {
            Self::Plain(counted) => Pin::new(counted),
            Self::Tls(tls) => Pin::new(&mut **tls),
        }
    }

    /// The peer has said that it will send no more.
    fn ended(&self) {
        let Counted { stream, witness, .. } = self.counted();
        if let Some(witness) = witness {
            witness.ended(stream);
        }
    }

    /// A read or write failed: what the peer had said before, a witness may tell of.
    fn failed(&mut self, error: &io::Error, cx: &mut Context<'_>) {
        let Some(witness) = self.counted().witness.clone() else { return };
        let last_words = match self {
            // A broken pipe is what a reset is called once the peer's end has come.
            Self::Plain(_) if error.kind() == io::ErrorKind::BrokenPipe => LastWords::End,
            Self::Plain(_) => LastWords::None,
            Self::Tls(_) if refusal(error).is_some() => LastWords::Refusal,
            Self::Tls(tls) => last_words(&mut **tls, cx),
        };
        match last_words {
            LastWords::End => self.ended(),
            LastWords::Refusal => witness.refused(),
            LastWords::None => {}
        }
    }

    /// Passes the result of a write on, having looked at its error.
    fn wrote<T>(&mut self, result: io::Result<T>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if let Err(error) = &result {
            self.failed(error, cx);
        }
        Poll::Ready(result)
    }
}

/// What a peer has said last, which may still wait to be read when a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastWords {
    /// That it will send no more.
    End,
    /// That it does not take this side for what it is.
    Refusal,
    /// Nothing that tells.
    None,
}

fn last_words(tls: &mut (impl AsyncBufRead + Unpin), cx: &mut Context<'_>) -> LastWords {
    match Pin::new(tls).poll_fill_buf(cx) {
        Poll::Ready(Ok([])) => LastWords::End,
        Poll::Ready(Err(error)) if refusal(&error).is_some() => LastWords::Refusal,
        Poll::Ready(Ok(_) | Err(_)) | Poll::Pending => LastWords::None,
    }
}

async fn peek(tls: &mut (impl AsyncBufRead + Unpin), window: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| {
        let read = ready!(Pin::new(&mut *tls).poll_fill_buf(cx))?;
        let length = read.len().min(window.len());
        window[..length].copy_from_slice(&read[..length]);
        Poll::Ready(Ok(length))
    })
    .await
}

/// What TCP and TLS have in common here.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl From<Counted> for Io {
    fn from(counted: Counted) -> Self {
        Self::Plain(counted)
    }
}

impl From<TlsStream<Counted>> for Io {
    fn from(tls: TlsStream<Counted>) -> Self {
        Self::Tls(Box::new(tls))
    }
}

impl AsMut<Io> for Io {
    fn as_mut(&mut self) -> &mut Io {
        self
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(self.stream().poll_read(cx, buf));
        match &result {
            Ok(()) if buf.filled().len() == before && buf.remaining() > 0 => self.ended(),
            Ok(()) => {}
            Err(error) => self.failed(error, cx),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(self.stream().poll_write(cx, buf));
        self.wrote(result, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(self.stream().poll_write_vectored(cx, bufs));
        self.wrote(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(counted) => counted.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(self.stream().poll_flush(cx));
        self.wrote(result, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(self.stream().poll_shutdown(cx));
        self.wrote(result, cx)
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        result.map_err(|error| self.broke(error))?;
        let read = &buf.filled()[before..];
        self.record.read(read.len());
        if let Some(line) = self.record.line() {
            line.came(read, client_hello::names);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        if let (Some(line), Ok(written)) = (self.record.line(), &result) {
            line.went(&buf[..*written], client_hello::names);
        }
        Poll::Ready(self.wrote(result))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        if let (Some(line), Ok(written)) = (self.record.line(), &result) {
            let mut left = *written;
            for piece in bufs {
                let piece = &piece[..left.min(piece.len())];
                line.went(piece, client_hello::names);
                left -= piece.len();
            }
        }
        Poll::Ready(self.wrote(result))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
