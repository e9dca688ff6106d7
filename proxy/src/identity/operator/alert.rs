//! A TLS stream of which is remembered by which alert its peer ended it. Whatever speaks above it tells only that the
//! connection broke.

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
    /// The alert, where it says that the certificate is what was not liked (RFC 8446 section 6.2).
    pub(crate) fn of_certificate(&self) -> Option<AlertDescription> {
        use AlertDescription as Alert;
        let alert = self.0.get()?;
        let of_certificate = matches!(
            alert,
            Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::CertificateRequired
                // Of its signature, or of one below a root of the same name.
                | Alert::DecryptError
        );
        of_certificate.then_some(*alert)
    }

    fn listen(&self, error: &io::Error) {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            // The first one counts.
            let _ = self.0.set(*alert);
        }
    }
}

impl<S: AsyncRead> AsyncRead for Alerted<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let read = ready!(this.stream.poll_read(cx, buf));
        Poll::Ready(read.inspect_err(|error| this.heard.listen(error)))
    }
}

impl<S: AsyncWrite> AsyncWrite for Alerted<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }
}
