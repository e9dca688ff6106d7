//! How it became known what connections carry, and how long that took.
//!
//! There are so few series that they are looked up once each, and held for as long as the proxy runs.

use super::{
    labels::{Direction, Labels},
    series::{Counter, Family, Histogram, Room},
};
use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// What said how a connection is to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// What its destination declares: a policy, an annotation, `appProtocol`, a port's name, or a well-known port.
    Declared,
    /// The client's first bytes.
    FirstBytes,
    /// A peer of the mesh.
    Peer,
    /// That the server spoke first, now or lately.
    ServerFirst,
    /// Nothing in time: the client began something that it did not go on with, or both were silent until the server ended it.
    Nothing,
}

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    Http1,
    Http2,
    /// The application's own TLS.
    Tls,
    /// Bytes.
    Opaque,
}

/// The two families, and their series by where they stand in the enumerations above.
#[derive(Debug)]
pub(crate) struct Detection {
    pub(super) connections: Family<Counter>,
    pub(super) latency: Family<Histogram>,
    counters: [[[OnceLock<Arc<Counter>>; 4]; 5]; 2],
    histograms: [OnceLock<Arc<Histogram>>; 2],
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::FirstBytes => "first_bytes",
            Self::Peer => "peer",
            Self::ServerFirst => "server_first",
            Self::Nothing => "nothing",
        }
    }
}

impl Carries {
    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::Opaque => "opaque",
        }
    }
}

impl Detection {
    pub(super) fn new(room: &Room) -> Self {
        let (connections, latency) = (Family::new(room), Family::new(room));
        Self { connections, latency, counters: Default::default(), histograms: Default::default() }
    }

    /// Counts a connection that is served from now on, and how long it was looked at, where that had a bound.
    pub(crate) fn classified(&self, direction: Direction, by: By, carries: Carries, looked: Option<Duration>) {
        let series = || {
            let labels = Labels::direction(direction).and("by", by.name()).and("protocol", carries.name());
            self.connections.series(&labels)
        };
        self.counters[direction as usize][by as usize][carries as usize].get_or_init(series).increment();
        if let Some(looked) = looked {
            let series = || self.latency.series(&Labels::direction(direction));
            self.histograms[direction as usize].get_or_init(series).observe(looked);
        }
    }

    pub(super) fn sweep(&self, now: Instant) {
        self.connections.sweep(now);
        self.latency.sweep(now);
    }
}
