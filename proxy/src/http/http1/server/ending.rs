//! What comes after an answer: what is left of a request that was answered before it had ended, and the end of a connection.
//!
//! Neither may cost a client its answer. A connection that is closed with bytes of the client unread, or on their way, is
//! reset by the kernel, and a reset can overtake the answer, or destroy it before it has been read. So a connection is closed
//! in steps (RFC 9112 section 9.6): nothing more is written, what still comes is read and thrown away, and when the client has
//! closed its side too, or pauses for [`limits::DISCARDING`], or goes on for [`limits::CLOSING`], the connection is let go of.
//!
//! A request that somebody sends on to a server is not ours to end: whoever holds its body bounds how long that takes, and the
//! client's connection waits for it, whether it is to be closed or not.

use super::{Connection, Expects, State};
use crate::http::{
    http1::body::{Broken, Reading},
    limits,
};
use bytes::Bytes;
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Poll, ready},
};
use tokio::{io::AsyncWrite, time::timeout};

impl Connection {
    /// Whether another request may follow the one that is about to be answered.
    pub(super) fn may_go_on(&self) -> bool {
        let State { expects, reading, held, .. } = &*self.state();
        // A client that was not asked for its body may send it or not: what comes next cannot be told.
        let unasked = *expects == Expects::ToBeAsked && *reading != Reading::Done;
        let unwanted = !held && matches!(*reading, Reading::Length(left) if left > limits::DISCARDED as u64);
        !unasked && !unwanted
    }

    /// Waits for the request to end that has been answered, or reads what is left of it if that is little; whether another can
    /// follow.
    pub(super) async fn finish_request(&self) -> bool {
        if self.has_ended() {
            return true;
        }
        // In a box, for answers seldom come before the end of their requests.
        let rest = async {
            self.released().await;
            timeout(limits::DISCARDING, self.discard_body()).await.unwrap_or(false)
        };
        Box::pin(rest).await
    }

    /// Ends the connection, so that the client can read what was written.
    pub(super) async fn close(&self) {
        let no_more = poll_fn(|cx| Pin::new(&mut self.state().transport()?.io).poll_shutdown(cx).map_err(Broken::from));
        if no_more.await.is_ok() && self.is_unread() {
            self.released().await;
            // It is closed whether the client has come to its end or not.
            let _ = timeout(limits::CLOSING, self.discard()).await;
        }
        let ended = self.state().end();
        drop(ended);
    }

    /// Whether all of the request has come and been taken.
    fn has_ended(&self) -> bool {
        let state = self.state();
        state.reading == Reading::Done && !state.held
    }

    /// Whether the client has sent, or was about to send, what nobody has read.
    fn is_unread(&self) -> bool {
        let state = self.state();
        state.reading != Reading::Done || state.transport.as_ref().is_some_and(|transport| !transport.input.is_empty())
    }

    /// Waits until nobody sends the request's body on any more.
    async fn released(&self) {
        poll_fn(|cx| {
            let mut state = self.state();
            if !state.held {
                return Poll::Ready(());
            }
            if !state.server.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                state.server = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Reads the rest of a body that nobody wants, unless that is much; whether it has ended.
    async fn discard_body(&self) -> bool {
        let mut left = limits::DISCARDED;
        poll_fn(|cx| {
            let mut state = self.state();
            let State { transport: Some(transport), reading, .. } = &mut *state else { return Poll::Ready(false) };
            loop {
                if *reading == Reading::Done {
                    return Poll::Ready(true);
                }
                match ready!(reading.poll_frame(transport, cx)) {
                    Some(Ok(frame)) => match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                        Some(rest) => left = rest,
                        None => return Poll::Ready(false),
                    },
                    Some(Err(_)) => return Poll::Ready(false),
                    None => {}
                }
            }
        })
        .await
    }

    /// Reads what comes and throws it away, until the client ends it, or pauses.
    async fn discard(&self) {
        let read = || {
            poll_fn(|cx| {
                let mut state = self.state();
                let transport = state.transport()?;
                transport.input.clear();
                transport.poll_fill(cx).map_err(Broken::from)
            })
        };
        while let Ok(Ok(1..)) = timeout(limits::DISCARDING, read()).await {}
    }
}
