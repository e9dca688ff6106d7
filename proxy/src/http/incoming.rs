//! The body of a message as it comes, over either version of HTTP: the seam between what reads and writes connections and
//! what forwards messages. A new codec is a new payload of a variant; nobody else can tell.

use super::{http1, http2};
use crate::outcome::Failure;
use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// A body that is being received.
#[derive(Debug)]
pub(crate) enum Incoming {
    Http1(http1::Body),
    Http2(http2::Streamed),
}

/// Tells the client of a request what comes before its answer (1xx), if it understands that.
#[derive(Clone, Debug)]
pub(crate) enum Informer {
    Http1(http1::Informer),
    Http2(http2::Informer),
}

impl Incoming {
    /// What tells the client whose request this is.
    pub(crate) fn informer(&self) -> Option<Informer> {
        match self {
            Self::Http1(http1::Body::Request(body)) => Some(Informer::Http1(body.informer())),
            Self::Http1(http1::Body::Response(_)) => None,
            Self::Http2(body) => body.informer().map(Informer::Http2),
        }
    }

    /// Sends on what there is of the request that this answers, where nobody else does. For whoever cannot take more of the
    /// answer now, and must not hold up the request with it.
    pub(crate) fn poll_request(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Http1(body) => body.poll_request(cx),
            Self::Http2(_) => {}
        }
    }
}

impl Informer {
    /// Sends an informational response.
    pub(crate) fn inform(&self, response: &Response<()>) {
        match self {
            Self::Http1(informer) => informer.inform(response),
            Self::Http2(informer) => informer.inform(response),
        }
    }
}

/// Why a body broke off, or a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Http1(http1::Broken),
    /// Carries the reason of a reset.
    #[error(transparent)]
    Http2(h2::Error),
}

impl Broken {
    /// With what the client was refused before it had made a request, if it was.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        match self {
            Self::Http1(http1::Broken::Refused(failure, _)) => Some(*failure),
            Self::Http1(_) => None,
            // This side said so, and not by its own wish: the frames are not HTTP/2.
            Self::Http2(error) => (error.is_go_away() && error.is_library()).then_some(Failure::RequestInvalid),
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Broken::Http1),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(Broken::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
