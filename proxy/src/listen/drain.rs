//! The end of a worker's service: told once, seen by every connection.
//!
//! A native sidecar gets SIGTERM only after the application has exited. A proxy that drains still accepts, so that
//! nothing that was on its way is refused, asks its peers to go elsewhere, and is done when nothing is open.

use super::{accept::Refusal, room::Room};
use std::{cell::Cell, net::IpAddr, rc::Rc, sync::Arc, time::Duration};
use tokio::sync::{Notify, watch};

/// How far the process is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Cutting,
}

/// Says that the process is to end. Dropping it says so too.
#[derive(Debug)]
pub struct DrainSignal(watch::Sender<Phase>);

/// Sees that the process is to end.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Phase>);

/// A signal and its watcher, of which there can be any number of clones, on any thread.
pub fn channel() -> (DrainSignal, Drain) {
    let (tx, rx) = watch::channel(Phase::Serving);
    (DrainSignal(tx), Drain(rx))
}

impl DrainSignal {
    /// Tells every watcher that the process is to end when nothing is open.
    pub fn drain(&self) {
        self.0.send_replace(Phase::Draining);
    }

    /// Tells every watcher that the process ends now, whatever is open.
    pub fn cut(&self) {
        self.0.send_replace(Phase::Cutting);
    }
}

impl Drain {
    /// Whether it was told.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining || self.0.has_changed().is_err()
    }

    /// Waits until it is told.
    pub async fn draining(&mut self) {
        // An error is a dropped signal, which says the same.
        let _ = self.0.wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Waits until what is open is to be cut.
    pub(crate) async fn cutting(&mut self) {
        if self.0.wait_for(|phase| *phase == Phase::Cutting).await.is_err() {
            // Nobody can say so any more.
            std::future::pending().await
        }
    }
}

/// What `decided` gives, or none where the drain was told and the peers have said nothing for `patience` since: a
/// connection on which nothing happens must not keep a process from ending.
pub(crate) async fn unless_silent<T>(
    mut drain: Drain,
    patience: Duration,
    decided: impl Future<Output = T>,
) -> Option<T> {
    let impatient = async {
        drain.draining().await;
        tokio::time::sleep(patience).await;
    };
    tokio::select! {
        biased;
        decided = decided => Some(decided),
        () = impatient => None,
    }
}

/// Counts the connections that a worker has open, so that it can wait for the last; each has a place in the room.
#[derive(Clone, Debug)]
pub(crate) struct OpenConnections(Rc<Counts>);

#[derive(Debug)]
struct Counts {
    room: Arc<Room>,
    open: Cell<usize>,
    closed: Notify,
}

/// One of the open connections.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    counted: OpenConnections,
    from: IpAddr,
}

impl OpenConnections {
    pub(super) fn within(room: Arc<Room>) -> Self {
        Self(Rc::new(Counts { room, open: Cell::new(0), closed: Notify::new() }))
    }

    /// Counts a connection from `from` for as long as what is given is held. `is_probe`: whether it may be one of the kubelet's.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn open(&self, from: IpAddr, is_probe: impl Fn() -> bool) -> Result<OpenConnection, Refusal> {
        self.0.room.enter(from, is_probe)?;
        self.0.open.set(self.0.open.get() + 1);
        Ok(OpenConnection { counted: self.clone(), from })
    }

    /// Waits until none is open.
    pub(super) async fn none(&self) {
        while self.0.open.get() > 0 {
            self.0.closed.notified().await;
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let Counts { room, open, closed } = &*self.counted.0;
        room.leave(self.from);
        open.set(open.get() - 1);
        if open.get() == 0 {
            closed.notify_one();
        }
    }
}
