//! Why what goes on in a stream is given up: the reason with which a client reset its stream is the one with which the
//! server's is reset.
//!
//! To give up is to drop, here as everywhere, and to drop takes no argument. So the reason stands beside it, on the thread on
//! which all that the client's stream has begun is dropped.

use h2::Reason;
use std::cell::Cell;

thread_local! {
    static REASON: Cell<Reason> = const { Cell::new(Reason::CANCEL) };
}

/// Runs `drop`, in which what is given up is given up for this reason.
pub(super) fn because(reason: Reason, drop: impl FnOnce()) {
    let before = REASON.replace(reason);
    drop();
    REASON.set(before);
}

/// The reason for which what is being dropped is given up.
pub(super) fn reason() -> Reason {
    REASON.get()
}
