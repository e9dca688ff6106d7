//! How much HTTP/2 bodies that nobody takes may hold, all those of a worker together.
//!
//! A window bounds one body, and its connection's window those of one connection. Neither bounds the sum: whoever opens enough
//! streams, or asks enough addresses, and reads nothing of what comes, would fill them all. So each worker counts the bodies of
//! which a piece waits to be taken. From [`CROWD`] on, new room is small: every connection says so in its settings as soon as
//! anything moves on it, ahead of the request that it is about to send, and what comes then holds [`SMALL`] a body. A
//! connection on which nothing moves holds no more than before, so that nobody has to be woken for it. That is never an error
//! to anybody, and slows only what is large. It ends when half the crowd has gone.
//!
//! Against those who go on nevertheless there is [`MOST`]: a body that would be one more to wait is reset. It may be that of
//! somebody who takes what is his, only not at once: whoever holds so many of a worker's places keeps others from large
//! bodies, not from small ones, and fills no memory. Together a worker holds about `CROWD * STREAM_WINDOW + MOST * SMALL`,
//! 96 MiB, and what is on its way when a crowd has formed within one round trip, which the windows of connections bound.

use crate::http::limits::STREAM_WINDOW;
use std::cell::Cell;

/// Bodies waiting in a worker from which on windows are small: 32 MiB in windows of the usual size.
const CROWD: usize = 128;

/// Bytes of a body that may be in the proxy while there is a crowd: one frame of the usual size.
const SMALL: u32 = 16 * 1024;

/// Most bodies that wait in a worker.
const MOST: usize = 4096;

thread_local! {
    static WAITING: Cell<usize> = const { Cell::new(0) };
}

/// A piece of a body has been handed on, and waits until it has been taken.
pub(super) fn waits() {
    WAITING.set(WAITING.get() + 1);
}

/// It has been taken.
pub(super) fn waits_no_more() {
    WAITING.set(WAITING.get() - 1);
}

/// Whether more wait than may.
pub(super) fn are_full() -> bool {
    WAITING.get() > MOST
}

/// The window that the streams of one connection have.
#[derive(Debug)]
pub(super) struct Window(u32);

impl Window {
    /// That of a connection which is being opened.
    pub(super) fn new() -> Self {
        Self(size(STREAM_WINDOW, WAITING.get()))
    }

    pub(super) fn size(&self) -> u32 {
        self.0
    }

    /// Has `tell` tell the peer of another size, if it is to be another. Where it cannot be told yet, it is the next time.
    pub(super) fn adapt<E>(&mut self, tell: impl FnOnce(u32) -> Result<(), E>) {
        let size = size(self.0, WAITING.get());
        if size != self.0 && tell(size).is_ok() {
            self.0 = size;
        }
    }
}

/// The size that a window of this size is to have, where so many bodies wait.
fn size(now: u32, waiting: usize) -> u32 {
    match waiting {
        CROWD.. => SMALL,
        waiting if waiting > CROWD / 2 => now,
        _ => STREAM_WINDOW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_small_from_a_crowd_on_until_half_of_it_has_gone() {
        let mut window = Window::new();
        let mut after = |waiting| {
            WAITING.set(waiting);
            window.adapt(|_| Ok::<_, ()>(()));
            window.size()
        };
        assert_eq!([0, CROWD - 1].map(&mut after), [STREAM_WINDOW; 2]);
        assert_eq!([CROWD, MOST, CROWD / 2 + 1].map(&mut after), [SMALL; 3]);
        assert_eq!([CROWD / 2, CROWD - 1].map(&mut after), [STREAM_WINDOW; 2]);
    }

    #[test]
    fn a_peer_that_cannot_be_told_yet_is_told_the_next_time() {
        let mut window = Window::new();
        WAITING.set(CROWD);
        window.adapt(|_| Err(()));
        assert_eq!(window.size(), STREAM_WINDOW);
        window.adapt(|_| Ok::<_, ()>(()));
        assert_eq!((window.size(), Window::new().size()), (SMALL, SMALL));
    }
}
