//! A body as it is received, over a connection that others use too.

use super::{
    chunked::{Chunked, Next},
    client,
    framing::Framing,
    head::Fault,
    server,
    transport::Transport,
    write::WrongLength,
};
use crate::outcome::Failure;
use bytes::{Buf, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use std::{
    io,
    task::{Context, Poll, ready},
};

/// Largest piece that is copied out of the buffer that it was read into, so that the buffer can be used again at once.
const COPIED: usize = 4096;

/// A body that is being received, of either side.
#[derive(Debug)]
pub(crate) enum Body {
    Request(server::Body),
    Response(client::Body),
}

/// Why a connection, or a body, came to its end too early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came before there was a request was answered with this.
    #[error("{}", .1.map_or_else(|| .0.to_string(), |fault| fault.to_string()))]
    Refused(Failure, Option<Fault>),
    /// What came is not HTTP as it has to be.
    #[error(transparent)]
    Invalid(#[from] Fault),
    #[error(transparent)]
    WrongLength(#[from] WrongLength),
    /// The other side said that it sends no more.
    #[error("the connection ended too early")]
    Ended,
    /// What was to be sent broke off.
    #[error("what was being sent broke off")]
    Source,
    /// The connection has become something else, or is gone.
    #[error("the connection is gone")]
    Gone,
}

/// Where in a body its reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// After it.
    Done,
    Length(u64),
    Chunked(Chunked),
    UntilEnd,
    /// What comes next cannot be known.
    Broken,
}

impl From<Framing> for Reading {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::START),
            Framing::UntilEnd => Self::UntilEnd,
        }
    }
}

impl Reading {
    /// What comes next of the body.
    pub(super) fn poll_frame(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = ready!(self.poll_next(transport, cx));
        if polled.is_err() {
            *self = Self::Broken;
        }
        transport.rest();
        Poll::Ready(polled.transpose())
    }

    fn poll_next(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
        loop {
            match self.next(&mut transport.input)? {
                Next::Data(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                Next::Trailers(trailers) => {
                    *self = Self::Done;
                    return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
                }
                Next::End => {
                    *self = Self::Done;
                    return Poll::Ready(Ok(None));
                }
                Next::More => {}
            }
            if ready!(transport.poll_fill(cx))? == 0 {
                match self {
                    Self::UntilEnd => *self = Self::Done,
                    _ => return Poll::Ready(Err(Broken::Ended)),
                }
            }
        }
    }

    /// Takes what comes next out of `input`.
    ///
    /// # Errors
    /// It is not framed as it has to be.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Next, Fault> {
        Ok(match self {
            Self::Done => Next::End,
            Self::Broken => return Err(Fault::Invalid("what comes next cannot be known")),
            Self::Chunked(chunked) => chunked.next(input)?,
            Self::Length(_) | Self::UntilEnd if input.is_empty() => Next::More,
            Self::UntilEnd => Next::Data(take(input, u64::MAX)),
            Self::Length(missing) => {
                let data = take(input, *missing);
                *missing -= data.len() as u64;
                if *missing == 0 {
                    *self = Self::Done;
                }
                Next::Data(data)
            }
        })
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Done => SizeHint::with_exact(0),
            Self::Length(missing) => SizeHint::with_exact(*missing),
            Self::Chunked(_) | Self::UntilEnd | Self::Broken => SizeHint::default(),
        }
    }
}

/// Takes at most so much out of `input`.
pub(super) fn take(input: &mut BytesMut, most: u64) -> Bytes {
    let length = usize::try_from(most).map_or(input.len(), |most| most.min(input.len()));
    if length <= COPIED {
        let data = Bytes::copy_from_slice(&input[..length]);
        input.advance(length);
        data
    } else {
        input.split_to(length).freeze()
    }
}

impl Body {
    /// Sends on what there is of the request that this answers, if it does.
    pub(crate) fn poll_request(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Request(_) => {}
            Self::Response(body) => body.poll_request(cx),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Request(body) => body.poll_frame(cx),
            Self::Response(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Request(body) => body.is_ended(),
            Self::Response(body) => body.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Request(body) => body.size_hint(),
            Self::Response(body) => body.size_hint(),
        }
    }
}
