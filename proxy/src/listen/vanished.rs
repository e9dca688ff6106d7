//! Peers that vanished: whose host lost its power, or whose network is gone, so that no end of their connections ever
//! comes.
//!
//! A connection on which nothing is under way is probed by the kernel (keepalive: see [`super::socket`]). One with bytes
//! under way is not, for the bytes are sent again and again; the kernel gives up after about 15 minutes
//! (`tcp_retries2`). As long its other side waits, and what was read from there is kept. `TCP_USER_TIMEOUT` would end it
//! sooner, but it counts the time too that a peer keeps its window closed, though it acknowledges every probe of it: whoever
//! pauses reading, as any client or server may that the proxy does not know, would lose its connection.
//!
//! So the kernel is asked, and what it says is weighed. A peer has vanished that has acknowledged nothing at all for as long
//! as a setting says, while for as long bytes have been sent to it again and again. The first alone says nothing: a
//! connection that was idle for a day has heard nothing for a day when it sends its next byte. Nor does the second: a peer
//! that acknowledges anything lives, whatever gets lost on the way to it.
//!
//! A closed window is another matter. The kernel asks whether it is still closed, less and less often, up to every two
//! minutes, and a reader that pauses answers: only one that has not for five minutes has vanished.
//!
//! One look a while at all connections of a worker, and not a timer for each: a connection costs the byte that says that it
//! is there, and one system call a look. A worker without connections does not look. A connection whose peer has vanished is
//! dissolved in the kernel; whoever drives it, whatever it carries, finds it broken and ends its other side.

use super::{
    drain::Drain,
    tcp_info::{self, Delivery},
};
use crate::outcome::Seldom;
use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    io,
    os::fd::{AsRawFd, RawFd},
    rc::Rc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::Notify,
    task::yield_now,
    time::{Instant, sleep},
};

/// Looks in the time after which a peer has vanished.
const LOOKS: u32 = 2;

/// How long the question whether its window is still closed may stay without an answer: the kernel asks every two minutes
/// at least (`TCP_RTO_MAX`), and a question or an answer can be lost.
const CLOSED: Duration = Duration::from_secs(300);

/// Connections that are looked at before others get their turn.
const AT_ONCE: usize = 64;

thread_local! {
    static CONNECTIONS: Rc<Connections> = Rc::default();
}

/// Those of one worker.
#[derive(Debug, Default)]
struct Connections {
    /// By number, which the kernel keeps small.
    states: RefCell<Vec<State>>,
    open: Cell<usize>,
    some: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    None,
    Open,
    /// Dissolved, because its peer has vanished.
    Vanished,
    /// Dissolved, because the process ends.
    Cut,
}

/// A connection that is looked after, until this is dropped: which must be before it is closed.
#[derive(Debug)]
pub(super) struct LookedAfter(RawFd);

impl LookedAfter {
    pub(super) fn new(stream: &TcpStream) -> Self {
        let fd = stream.as_raw_fd();
        CONNECTIONS.with(|connections| connections.add(fd));
        Self(fd)
    }

    /// What `error` of this connection means.
    pub(super) fn explain(&self, error: io::Error) -> io::Error {
        match CONNECTIONS.with(|connections| connections.state(self.0)) {
            State::Vanished => io::ErrorKind::TimedOut.into(),
            State::None | State::Open | State::Cut => error,
        }
    }
}

impl Drop for LookedAfter {
    fn drop(&mut self) {
        // A thread that ends may have let go of all of them already.
        let _ = CONNECTIONS.try_with(|connections| connections.remove(self.0));
    }
}

impl Connections {
    /// Those of this thread.
    fn of_thread() -> Rc<Self> {
        CONNECTIONS.with(Rc::clone)
    }

    fn add(&self, fd: RawFd) {
        let index = fd as usize;
        let mut states = self.states.borrow_mut();
        if states.len() <= index {
            states.resize(index + 1, State::None);
        }
        states[index] = State::Open;
        if self.open.replace(self.open.get() + 1) == 0 {
            self.some.notify_one();
        }
    }

    fn remove(&self, fd: RawFd) {
        if let Some(state) = self.states.borrow_mut().get_mut(fd as usize)
            && *state != State::None
        {
            *state = State::None;
            self.open.set(self.open.get() - 1);
        }
    }

    fn state(&self, fd: RawFd) -> State {
        self.states.borrow().get(fd as usize).copied().unwrap_or(State::None)
    }

    /// Dissolves those from number `start` on for which `is_over` says so; where to go on, or none at the end.
    fn dissolve(&self, start: usize, why: State, is_over: impl Fn(RawFd) -> bool) -> Option<usize> {
        let mut states = self.states.borrow_mut();
        let end = states.len().min(start + AT_ONCE);
        for index in (start..end).filter(|index| states[*index] == State::Open).collect::<Vec<_>>() {
            let fd = index as RawFd;
            if is_over(fd) {
                states[index] = why;
                if let Err(error) = tcp_info::abort(fd) {
                    tracing::debug!(%error, "a connection that is over stays");
                }
            }
        }
        (end < states.len()).then_some(end)
    }
}

/// Looks after the connections of this thread, for ever: ends those whose peer has vanished, which is when it has been
/// silent for `patience` though it has to answer, and all of them once what is open is to be cut.
pub async fn look_after(patience: Duration, mut drain: Drain) -> Infallible {
    let connections = Connections::of_thread();
    tokio::select! {
        never = end_vanished(&connections, patience) => never,
        () = drain.cutting() => {
            // Not an orderly end: whoever reads what was sent so far must not take it for all.
            let mut from = Some(0);
            while let Some(start) = from {
                from = connections.dissolve(start, State::Cut, |_| true);
            }
            std::future::pending().await
        }
    }
}

async fn end_vanished(connections: &Connections, patience: Duration) -> Infallible {
    let log = Seldom::default();
    loop {
        while connections.open.get() == 0 {
            connections.some.notified().await;
        }
        sleep(patience / LOOKS).await;
        let is_over = |fd| {
            let vanished = tcp_info::delivery(fd).is_some_and(|delivery| has_vanished(&delivery, patience));
            if vanished && let Some(left_out) = log.due(Instant::now()) {
                tracing::warn!(left_out, "a peer acknowledges nothing that is sent to it: its connection is given up");
            }
            vanished
        };
        let mut from = Some(0);
        while let Some(start) = from {
            from = connections.dissolve(start, State::Vanished, is_over);
            yield_now().await;
        }
    }
}

/// Whether a peer has vanished to which `delivery` is how things are under way.
fn has_vanished(delivery: &Delivery, patience: Duration) -> bool {
    let Delivery { unacknowledged, window, timeouts, timeout, sent, heard, probes } = *delivery;
    let waits = (unacknowledged > 0 && timeouts > 0) || probes > 0;
    if window == 0 {
        return waits && heard >= patience.max(CLOSED);
    }
    // The timeout has doubled each time: all of them before the one that runs took, together, as long as it, less the first.
    let first = timeout / 2_u32.saturating_pow(timeouts.into());
    waits && heard >= patience && timeout.saturating_sub(first) + sent.min(timeout) >= patience
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Bytes that were sent again for the seventh time, 25.4 s after the first, and then so many seconds ago.
    fn sent_again(seconds: u64) -> Delivery {
        Delivery {
            unacknowledged: 3,
            window: 64_000,
            timeouts: 7,
            timeout: Duration::from_millis(200 << 7),
            sent: Duration::from_secs(seconds),
            heard: Duration::from_secs(3600),
            probes: 0,
        }
    }

    #[test]
    fn a_peer_has_vanished_that_leaves_bytes_unacknowledged_for_so_long() {
        assert!(!has_vanished(&sent_again(4), PATIENCE));
        assert!(has_vanished(&sent_again(5), PATIENCE));
        let forever = Delivery { timeouts: 14, timeout: Duration::from_secs(120), ..sent_again(0) };
        assert!(has_vanished(&forever, PATIENCE));
    }

    #[test]
    fn a_connection_that_was_silent_for_long_has_as_much_time_as_any_other() {
        let idle = Delivery { unacknowledged: 0, timeouts: 0, timeout: Duration::from_millis(200), ..sent_again(3600) };
        assert!(!has_vanished(&idle, PATIENCE), "nothing is under way");
        assert!(!has_vanished(&Delivery { unacknowledged: 1, sent: Duration::ZERO, ..idle }, PATIENCE));
        let once = Delivery { unacknowledged: 1, timeouts: 1, timeout: Duration::from_millis(400), ..idle };
        assert!(!has_vanished(&Delivery { sent: Duration::from_millis(399), ..once }, PATIENCE));
    }

    #[test]
    fn a_peer_that_acknowledges_anything_is_there() {
        assert!(!has_vanished(&Delivery { heard: Duration::from_secs(29), ..sent_again(20) }, PATIENCE));
    }

    #[test]
    fn a_reader_that_pauses_is_there_as_long_as_it_answers_in_time() {
        for (unacknowledged, probes) in [(0, 1), (3, 0)] {
            let paused = Delivery { unacknowledged, probes, window: 0, ..sent_again(100) };
            for (heard, vanished) in [(299, false), (300, true)] {
                let paused = Delivery { heard: Duration::from_secs(heard), ..paused };
                assert_eq!(has_vanished(&paused, PATIENCE), vanished, "{paused:?}");
                assert!(!has_vanished(&paused, Duration::from_secs(301)), "{paused:?}");
            }
        }
    }
}
