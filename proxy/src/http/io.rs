//! A stream whose bytes are counted as they pass.

use super::witness::Witness;
use crate::record::tcp::ConnectionRecord;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A connection and its record.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) stream: TcpStream,
    pub(crate) record: ConnectionRecord,
    /// Follows a connection on which requests are sent.
    witness: Option<Arc<Witness>>,
}

impl Counted {
    pub(crate) fn new(stream: TcpStream, record: ConnectionRecord) -> Self {
        Self { stream, record, witness: None }
    }

    /// The same connection, followed by a witness.
    pub(crate) fn witnessed(self) -> (Self, Arc<Witness>) {
        let witness = Arc::<Witness>::default();
        (Self { witness: Some(witness.clone()), ..self }, witness)
    }

    fn wrote(&self, result: io::Result<usize>) -> io::Result<usize> {
        match &result {
            Ok(bytes) => {
                self.record.wrote(*bytes);
                if let Some(witness) = &self.witness {
                    witness.wrote(*bytes);
                }
            }
            Err(error) => self.broke(error),
        }
        result
    }

    fn broke(&self, error: &io::Error) {
        self.record.broke(error);
        if let Some(witness) = &self.witness {
            witness.broke(&self.stream, error);
        }
    }
}

impl AsRef<TcpStream> for Counted {
    fn as_ref(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        match (&result, buf.filled().len() - before) {
            (Ok(()), 0) if buf.remaining() > 0 => {
                if let Some(witness) = &self.witness {
                    witness.ended(&self.stream);
                }
            }
            (Ok(()), bytes) => self.record.read(bytes),
            (Err(error), _) => self.broke(error),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(self.wrote(result))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
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
