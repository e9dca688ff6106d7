//! A TLS stream of which is remembered by which alert its peer ended it. Whatever speaks above it tells only that the
//! connection broke.

use crate::identity::refusal;
use pin_project_lite::pin_project;
use rustls::AlertDescription;
use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pin_project! {
    /// The stream.
    pub(super) struct Alerted<S> {
        #[pin]
        stream: S,
        heard: Heard,
    }
}

/// The alert, once there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<OnceLock<AlertDescription>>);

impl<S> Alerted<S> {
    pub(super) fn new(stream: S) -> (Self, Heard) {
        let heard = Heard::default();
        (Self { stream, heard: heard.clone() }, heard)
    }
}

impl Heard {
    /// The alert by which the peer refused the handshake, if it did.
    pub(crate) fn refusal(&self) -> Option<AlertDescription> {
        self.0.get().copied()
    }
}

impl<S: AsyncRead> Alerted<S> {
    fn listen(self: Pin<&mut Self>, error: &io::Error) {
        if let Some(alert) = refusal(error) {
            // The first one counts.
            let _ = self.project().heard.0.set(alert);
        }
    }

    /// Listens for what the peer said last: an alert may wait to be read where writing fails because the peer has gone.
    fn listen_for_last_words(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut unread = [0; 1024];
        loop {
            let mut unread = ReadBuf::new(&mut unread);
            match self.as_mut().poll_read(cx, &mut unread) {
                Poll::Ready(Ok(())) if !unread.filled().is_empty() => {}
                Poll::Ready(_) | Poll::Pending => return,
            }
        }
    }

    fn wrote<T>(self: Pin<&mut Self>, cx: &mut Context<'_>, result: io::Result<T>) -> Poll<io::Result<T>> {
        if result.is_err() {
            self.listen_for_last_words(cx);
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncRead> AsyncRead for Alerted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(self.as_mut().project().stream.poll_read(cx, buf));
        if let Err(error) = &read {
            self.listen(error);
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for Alerted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(self.as_mut().project().stream.poll_write(cx, buf));
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(self.as_mut().project().stream.poll_write_vectored(cx, bufs));
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(self.as_mut().project().stream.poll_flush(cx));
        self.wrote(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A connection whose peer has sent this alert and gone.
    struct Gone(AlertDescription);

    impl AsyncRead for Gone {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let error = rustls::Error::AlertReceived(self.0);
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)))
        }
    }

    impl AsyncWrite for Gone {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_refusal_is_heard_by_reading_and_where_writing_failed_first() {
        for (alert, expected) in
            [(AlertDescription::UnknownCA, Some(AlertDescription::UnknownCA)), (AlertDescription::CloseNotify, None)]
        {
            let (mut stream, heard) = Alerted::new(Gone(alert));
            stream.read_u8().await.unwrap_err();
            assert_eq!(heard.refusal(), expected, "reading");

            let (mut stream, heard) = Alerted::new(Gone(alert));
            assert_eq!(stream.write_u8(1).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(heard.refusal(), expected, "writing");

            let (mut stream, heard) = Alerted::new(Gone(alert));
            stream.flush().await.unwrap_err();
            assert_eq!(heard.refusal(), expected, "flushing");
        }
    }
}
