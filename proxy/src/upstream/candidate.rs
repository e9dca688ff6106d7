//! One endpoint as a worker sees it: its connections, its load, and the series that count what it does.

use super::{connections::Connections, ewma::Ewma};
use crate::{
    outcome::{Failure, Side},
    record::request::HttpSeries,
};
use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};
use tokio::time::Instant;

/// An endpoint that can be chosen.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) connections: Rc<Connections>,
    /// Counts attempts here.
    pub(crate) series: Rc<HttpSeries>,
    load: Cell<Ewma>,
    pending: Cell<usize>,
    /// Attempts whose answer has not begun.
    waiting: Cell<usize>,
    /// When the last answer began, or the first attempt after a time without any; of meaning while there are some.
    silent_since: Cell<Instant>,
}

/// One open request or connection at a candidate.
#[derive(Debug)]
pub(crate) struct Pending(Rc<Candidate>);

/// One request at a candidate whose answer has not begun. Dropped before something is heard, it was given up.
#[derive(Debug)]
pub(crate) struct Waiting {
    candidate: Rc<Candidate>,
    start: Instant,
    heard: bool,
}

impl Candidate {
    pub(crate) fn new(connections: Rc<Connections>, series: Rc<HttpSeries>, load: Ewma) -> Rc<Self> {
        Rc::new(Self {
            connections,
            series,
            load: Cell::new(load),
            pending: Cell::new(0),
            waiting: Cell::new(0),
            silent_since: Cell::new(Instant::now()),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.connections.address()
    }

    pub(super) fn load(&self) -> Ewma {
        self.load.get()
    }

    pub(super) fn cost(&self, now: Instant) -> f64 {
        let silence = match self.waiting.get() {
            0 => Duration::ZERO,
            _ => now.saturating_duration_since(self.silent_since.get()),
        };
        self.load.get().cost(self.pending.get(), silence, now)
    }

    /// Counts as open here until the answer is dropped.
    pub(crate) fn pending(self: &Rc<Self>) -> Pending {
        self.pending.set(self.pending.get() + 1);
        Pending(self.clone())
    }

    /// Counts as waited for here, since `start`, until the answer is told what became of it.
    pub(crate) fn waiting(self: &Rc<Self>, start: Instant) -> Waiting {
        if self.waiting.get() == 0 {
            self.silent_since.set(start);
        }
        self.waiting.set(self.waiting.get() + 1);
        Waiting { candidate: self.clone(), start, heard: false }
    }

    /// An attempt here took so long to be answered, or a connection to be opened.
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

impl Waiting {
    /// The answer has begun.
    pub(crate) fn answered(mut self, now: Instant) {
        self.heard = true;
        self.candidate.silent_since.set(now);
        self.candidate.answered(now.saturating_duration_since(self.start), now);
    }

    /// The answer has begun, and says "not now".
    pub(crate) fn unavailable(mut self, now: Instant) {
        self.heard = true;
        self.candidate.silent_since.set(now);
        self.candidate.failed(now);
    }

    /// The application will not answer. What is the client's fault says nothing of the candidate.
    pub(crate) fn failed(mut self, failure: Failure, now: Instant) {
        self.heard = true;
        if failure.row().side == Side::Server {
            self.candidate.failed(now);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Self { candidate, start, heard } = self;
        candidate.waiting.set(candidate.waiting.get() - 1);
        if !*heard {
            let now = Instant::now();
            let mut load = candidate.load.get();
            load.observe_at_least(now.saturating_duration_since(*start), now);
            candidate.load.set(load);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.set(self.0.pending.get() - 1);
    }
}
