//! The families of the data plane's metrics.

use super::{
    access::{AccessLog, Conversation},
    detection::Detection,
    labels::{Direction, Labels},
    series::{Counter, Family, Gauge, Histogram, MAX_SERIES, Room},
};
use crate::outcome::Failure;
use rustls::HandshakeKind;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// How often series that nobody uses any more are looked for. They are when metrics are read too, which may be never.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

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
    pub(crate) handshakes: Family<Counter>,
    pub(crate) handshake_latency: Family<Histogram>,
    pub(crate) detection: Detection,
    pub(crate) refused_requests: Family<Counter>,
    pub(crate) lines_lost: Family<Counter>,
    /// Where each connection and request is written about, if anywhere.
    pub(super) access: Option<AccessLog>,
}

/// How a TLS handshake with a peer of the mesh ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Both have shown their certificates.
    Full,
    /// An earlier session went on.
    Resumed,
    /// It did not come to its end, for one of finitely many reasons.
    Failed(&'static str),
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
        Self::with_room(MAX_SERIES, None)
    }

    /// Nothing counted yet; what is counted is written to `access` as well.
    pub fn logging(access: Option<AccessLog>) -> Arc<Self> {
        Self::with_room(MAX_SERIES, access)
    }

    pub(crate) fn with_room(series: usize, access: Option<AccessLog>) -> Arc<Self> {
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
            handshakes: Family::new(&room),
            handshake_latency: Family::new(&room),
            detection: Detection::new(&room),
            refused_requests: Family::new(&room),
            lines_lost: Family::new(&room),
            access,
        })
    }

    /// Forgets series that nobody uses any more, for ever, so that they make room for new ones whoever reads the metrics.
    pub async fn forget_unused(&self) -> Infallible {
        loop {
            sleep(SWEEP_EVERY).await;
            let now = Instant::now().into_std();
            self.http.sweep(now);
            self.route.sweep(now);
            let TcpFamilies { opened, open, closed, read_bytes, write_bytes } = &self.tcp;
            for counters in [opened, closed, read_bytes, write_bytes] {
                counters.sweep(now);
            }
            for counters in [&self.refused, &self.resent, &self.handshakes, &self.refused_requests, &self.lines_lost] {
                counters.sweep(now);
            }
            open.sweep(now);
            self.handshake_latency.sweep(now);
            self.detection.sweep(now);
        }
    }

    /// Counts a connection that was closed as soon as it was accepted.
    pub(crate) fn connection_refused(&self, direction: Direction, reason: &'static str) {
        self.refused.series(&Labels::direction(direction).and("reason", reason)).increment();
    }

    /// Counts what was refused before it was a request that could be counted as one, and writes it into the log of its
    /// connection.
    pub(crate) fn request_refused(&self, direction: Direction, failure: Failure, log: Option<&Conversation>) {
        let labels = Labels::direction(direction).and("error", failure.row().code);
        self.refused_requests.series(&labels).increment();
        if let Some(conversation) = log {
            conversation.refused(failure);
        }
    }

    /// Writes what there is of the access log, for as long as `within`, and nothing after.
    pub fn end_log(&self, within: Duration) {
        if let Some(access) = &self.access {
            access.end(within);
        }
    }

    /// Counts a line of the access log that there was no room for.
    pub(super) fn line_lost(&self) {
        self.lines_lost.series(&Labels::default()).increment();
    }

    /// Counts a TLS handshake with a peer of the mesh.
    pub fn handshake(&self, direction: Direction, handshake: Handshake) {
        let labels = Labels::direction(direction);
        let labels = match handshake {
            Handshake::Full => labels.and("result", "full"),
            Handshake::Resumed => labels.and("result", "resumed"),
            Handshake::Failed(reason) => labels.and("result", "failed").and("reason", reason),
        };
        self.handshakes.series(&labels).increment();
    }

    /// Counts a handshake that came to its end, and how long it took.
    pub fn handshaken(&self, direction: Direction, kind: Option<HandshakeKind>, latency: Duration) {
        self.handshake(
            direction,
            match kind {
                Some(HandshakeKind::Resumed) => Handshake::Resumed,
                Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => Handshake::Full,
            },
        );
        self.handshake_latency.series(&Labels::direction(direction)).observe(latency);
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

    fn sweep(&self, now: std::time::Instant) {
        let Self { requests, responses, latency } = self;
        requests.sweep(now);
        responses.sweep(now);
        latency.sweep(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn series_that_nobody_uses_make_room_even_if_the_metrics_are_never_read() {
        let metrics = Metrics::with_room(5, None);
        let labels = |dst| Labels::default().and("dst", dst);
        for dst in ["a", "b", "c"] {
            metrics.http.latency.series(&labels(dst));
        }
        metrics.tcp.open.series(&labels("a"));
        metrics.resent.series(&labels("a")).increment();
        let held = metrics.tcp.opened.series(&labels("beyond"));
        assert_eq!(Arc::strong_count(&held), 2, "counts under overflow");
        assert!(tokio::time::timeout(Duration::from_secs(800), metrics.forget_unused()).await.is_err());
        for dst in ["d", "e", "f", "g", "h"] {
            metrics.tcp.opened.series(&labels(dst)).increment();
        }
        let shown = metrics.tcp.opened.scrape(Instant::now().into_std());
        assert!(shown.iter().all(|(labels, _)| *labels != Labels::overflow()), "{shown:?}");
        assert_eq!(shown.len(), 5);
    }
}
