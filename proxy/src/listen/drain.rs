//! The end of a worker's service: told once, seen by every connection.
//!
//! A native sidecar gets SIGTERM only after the application has exited. A proxy that drains still accepts, so that
//! nothing that was on its way is refused, asks its peers to go elsewhere, and is done when nothing is open.

use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::sync::{Notify, watch};

/// Says that the process is to end. Dropping it says so too.
#[derive(Debug)]
pub struct DrainSignal(watch::Sender<bool>);

/// Sees that the process is to end.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<bool>);

/// A signal and its watcher, of which there can be any number of clones, on any thread.
pub fn channel() -> (DrainSignal, Drain) {
    let (tx, rx) = watch::channel(false);
    (DrainSignal(tx), Drain(rx))
}

impl DrainSignal {
    /// Tells every watcher.
    pub fn drain(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    /// Whether it was told.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until it is told.
    pub async fn draining(&mut self) {
        // An error is a dropped signal, which says the same.
        let _ = self.0.wait_for(|draining| *draining).await;
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

/// Counts the connections that a worker has open, so that it can wait for the last.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenConnections(Rc<(Cell<usize>, Notify)>);

/// One of the open connections.
#[derive(Debug)]
pub(crate) struct OpenConnection(OpenConnections);

impl OpenConnections {
    pub(crate) fn open(&self) -> OpenConnection {
        self.0.0.set(self.0.0.get() + 1);
        OpenConnection(self.clone())
    }

    /// Waits until none is open.
    pub(crate) async fn none(&self) {
        while self.0.0.get() > 0 {
            self.0.1.notified().await;
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let (open, closed) = &*self.0.0;
        open.set(open.get() - 1);
        if open.get() == 0 {
            closed.notify_one();
        }
    }
}
