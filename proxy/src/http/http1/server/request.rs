//! A request as whoever answers it has it: the body, and the way back for what comes before the answer. Both share the
//! connection with what serves it, and may be polled by another task.

use super::{Connection, Expects, State};
use crate::http::{
    http1::{
        body::{Broken, Reading},
        write,
    },
    tunnel::Grant,
};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use std::{
    fmt,
    rc::Rc,
    task::{Context, Poll},
};

/// The body of a request.
pub(crate) struct Body {
    pub(super) connection: Rc<Connection>,
    /// All of it was read, so that the connection may be at the next one.
    pub(super) ended: bool,
}

/// Tells the client of a request what comes before its answer.
#[derive(Clone)]
pub(crate) struct Informer(Rc<Connection>);

impl Body {
    pub(in crate::http::http1) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut state = self.connection.state();
        let State { transport, reading, reader, server, held, .. } = &mut *state;
        let Some(transport) = transport else { return Poll::Ready(Some(Err(Broken::Gone))) };
        let polled = reading.poll_frame(transport, cx);
        if polled.is_pending() && !reader.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
        if *reading == Reading::Done {
            (self.ended, *held) = (true, false);
            if let Some(server) = server.take() {
                server.wake();
            }
        }
        polled
    }

    pub(in crate::http::http1) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(in crate::http::http1) fn size_hint(&self) -> SizeHint {
        if self.ended { SizeHint::with_exact(0) } else { self.connection.state().reading.size_hint() }
    }

    /// What tells the client of this request more than its answer.
    pub(crate) fn informer(&self) -> Informer {
        Informer(self.connection.clone())
    }

    /// Once the request is granted to become something else, `grant` has the connection.
    pub(crate) fn upgrade(&self, grant: Grant) {
        self.connection.state().grant = Some(grant);
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.connection.state();
        state.held = false;
        state.reader = None;
        if let Some(server) = state.server.take() {
            server.wake();
        }
    }
}

impl Informer {
    /// Sends an informational response, if the client understands any, and has not had too many.
    pub(crate) fn inform(&self, response: &Response<()>) {
        let mut state = self.0.state();
        if state.informational == 0 {
            return;
        }
        state.informational -= 1;
        if response.status() == StatusCode::CONTINUE && state.expects == Expects::ToBeAsked {
            state.expects = Expects::Asked;
        }
        if let Some(transport) = &mut state.transport {
            // It is written when the request's future is next waited for.
            write::information(&mut transport.output, response);
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl fmt::Debug for Informer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informer").finish_non_exhaustive()
    }
}
