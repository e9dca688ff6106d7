//! One endpoint as a worker sees it: its connections, its load, and the series that count what it does.

use super::{connections::Connections, ewma::Ewma};
use crate::record::request::HttpSeries;
use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};
use tokio::time::Instant;

/// An endpoint that can be chosen.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) connections: Rc<Connections>,
    /// Counts attempts here.
    pub(crate) series: Rc<HttpSeries>,
    /// Whether a proxy answers for it, whose word on what reached its application can be taken.
    pub(crate) meshed: bool,
    load: Cell<Ewma>,
    pending: Cell<usize>,
}

/// One open request or connection at a candidate.
#[derive(Debug)]
pub(crate) struct Pending(Rc<Candidate>);

impl Candidate {
    pub(crate) fn new(connections: Rc<Connections>, series: Rc<HttpSeries>, meshed: bool, load: Ewma) -> Rc<Self> {
        Rc::new(Self { connections, series, meshed, load: Cell::new(load), pending: Cell::new(0) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.connections.address()
    }

    pub(super) fn load(&self) -> Ewma {
        self.load.get()
    }

    pub(super) fn cost(&self, now: Instant) -> f64 {
        self.load.get().cost(self.pending.get(), now)
    }

    /// Counts as open here until the answer is dropped.
    pub(crate) fn pending(self: &Rc<Self>) -> Pending {
        self.pending.set(self.pending.get() + 1);
        Pending(self.clone())
    }

    /// An attempt here took so long to be answered.
    pub(crate) fn answered(&self, latency: Duration, now: Instant) {
        let mut load = self.load.get();
        load.observe(latency, now);
        self.load.set(load);
    }

    /// An attempt here was not answered, or answered with "not now".
    pub(crate) fn failed(&self, now: Instant) {
        self.answered(super::ewma::PENALTY, now);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.set(self.0.pending.get() - 1);
    }
}
