//! The families of the data plane's metrics.

use super::{
    labels::{Direction, Labels},
    series::{Counter, Family, Gauge, Histogram, MAX_SERIES, Room},
};
use crate::outcome::Failure;
use std::sync::Arc;

/// All that the data plane counts, shared by every worker.
#[derive(Debug)]
pub struct Metrics {
    /// Per attempt at an endpoint, and per request that came in.
    pub(crate) http: Arc<HttpFamilies>,
    /// Per request and route, whatever attempts it took.
    pub(crate) route: Arc<HttpFamilies>,
    pub(crate) tcp: TcpFamilies,
    pub(crate) refused: Family<Counter>,
    pub(crate) resent: Family<Counter>,
}

/// What is counted of requests.
#[derive(Debug)]
pub(crate) struct HttpFamilies {
    pub(crate) requests: Family<Counter>,
    pub(crate) responses: Family<Counter>,
    pub(crate) latency: Family<Histogram>,
}

/// What is counted of connections.
#[derive(Debug)]
pub(crate) struct TcpFamilies {
    pub(crate) opened: Family<Counter>,
    pub(crate) open: Family<Gauge>,
    pub(crate) closed: Family<Counter>,
    pub(crate) read_bytes: Family<Counter>,
    pub(crate) write_bytes: Family<Counter>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Arc<Self> {
        Self::with_room(MAX_SERIES)
    }

    pub(crate) fn with_room(series: usize) -> Arc<Self> {
        let room = Room::new(series);
        Arc::new(Self {
            http: HttpFamilies::new(&room),
            route: HttpFamilies::new(&room),
            tcp: TcpFamilies {
                opened: Family::new(&room),
                open: Family::new(&room),
                closed: Family::new(&room),
                read_bytes: Family::new(&room),
                write_bytes: Family::new(&room),
            },
            refused: Family::new(&room),
            resent: Family::new(&room),
        })
    }

    /// Counts a connection that was closed as soon as it was accepted.
    pub(crate) fn connection_refused(&self, direction: Direction, reason: &'static str) {
        self.refused.series(&Labels::direction(direction).and("reason", reason)).increment();
    }

    /// Counts a request that was sent to another endpoint because `failure` proved that it had reached no application.
    pub(crate) fn request_resent(&self, failure: Failure) {
        self.resent.series(&Labels::default().and("error", failure.row().code)).increment();
    }
}

impl HttpFamilies {
    fn new(room: &Room) -> Arc<Self> {
        let (requests, responses, latency) = (Family::new(room), Family::new(room), Family::new(room));
        Arc::new(Self { requests, responses, latency })
    }
}
