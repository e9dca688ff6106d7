//! The record of one connection, at either end of the proxy.

use super::{
    access::ConnectionLine,
    labels::{Labels, Peer},
    metrics::Metrics,
    series::{Counter, Gauge},
};
use std::{
    io,
    sync::{Arc, OnceLock},
};

/// The series of connections that are alike, held by whatever opens or accepts them.
#[derive(Debug)]
pub(crate) struct TcpSeries {
    /// None where nobody sees them.
    metrics: Option<Arc<Metrics>>,
    labels: Labels,
    opened: Arc<Counter>,
    open: Arc<Gauge>,
    read_bytes: Arc<Counter>,
    write_bytes: Arc<Counter>,
    /// Orderly ends; the others are looked up when they happen.
    closed: Arc<Counter>,
}

/// One connection: counted as open from its start until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionRecord {
    series: Arc<TcpSeries>,
    error: OnceLock<&'static str>,
    /// Where it is written about: at the end of the proxy where what is not read passes in the clear.
    line: Option<Box<ConnectionLine>>,
}

impl TcpSeries {
    pub(crate) fn new(metrics: &Arc<Metrics>, peer: Peer, labels: &Labels) -> Arc<Self> {
        let labels = labels.and("peer", peer.name());
        let tcp = &metrics.tcp;
        Arc::new(Self {
            opened: tcp.opened.series(&labels),
            open: tcp.open.series(&labels),
            read_bytes: tcp.read_bytes.series(&labels),
            write_bytes: tcp.write_bytes.series(&labels),
            closed: tcp.closed.series(&labels.and("errno", "")),
            metrics: Some(metrics.clone()),
            labels,
        })
    }

    /// Counts one connection that is not known enough yet to say which series it belongs to: see [`TcpSeries::take_over`].
    pub(crate) fn aside() -> Arc<Self> {
        let (opened, closed, open) = Default::default();
        let (read_bytes, write_bytes) = Default::default();
        Arc::new(Self { metrics: None, labels: Labels::default(), opened, open, read_bytes, write_bytes, closed })
    }

    /// Starts the record of a connection that was counted aside until now, with the bytes that have passed on it.
    pub(crate) fn take_over(self: &Arc<Self>, aside: &Self) -> ConnectionRecord {
        let record = self.open();
        record.read(aside.read_bytes.value() as usize);
        record.wrote(aside.write_bytes.value() as usize);
        record
    }

    /// What they are counted under.
    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Starts the record of a connection that is open now.
    pub(crate) fn open(self: &Arc<Self>) -> ConnectionRecord {
        self.opened.increment();
        self.open.add(1);
        ConnectionRecord { series: self.clone(), error: OnceLock::new(), line: None }
    }
}

impl ConnectionRecord {
    /// Bytes came from the peer.
    pub(crate) fn read(&self, bytes: usize) {
        self.series.read_bytes.add(bytes as u64);
    }

    /// Bytes went to the peer.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.series.write_bytes.add(bytes as u64);
    }

    /// What passes is to be written about from now on, as `line`.
    pub(crate) fn write_as(&mut self, line: Box<ConnectionLine>) {
        self.line = Some(line);
    }

    /// Where what passes has to be shown.
    pub(crate) fn line(&self) -> Option<&ConnectionLine> {
        self.line.as_deref()
    }

    /// What it is counted under.
    pub(crate) fn labels(&self) -> &Labels {
        &self.series.labels
    }

    /// The connection broke; the first error is the one that is counted.
    pub(crate) fn broke(&self, error: &io::Error) {
        let _ = self.error.set(errno(error));
        if let Some(line) = &self.line {
            line.failed(errno(error));
        }
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        let TcpSeries { metrics, labels, open, closed, .. } = &*self.series;
        open.add(-1);
        match (self.error.get(), metrics) {
            (Some(errno), Some(metrics)) => metrics.tcp.closed.series(&labels.and("errno", *errno)).increment(),
            (Some(_) | None, _) => closed.increment(),
        }
    }
}

/// Value of the label `errno`.
fn errno(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "ECONNRESET",
        io::ErrorKind::ConnectionAborted => "ECONNABORTED",
        io::ErrorKind::BrokenPipe => "EPIPE",
        io::ErrorKind::TimedOut => "ETIMEDOUT",
        io::ErrorKind::NotConnected => "ENOTCONN",
        io::ErrorKind::HostUnreachable => "EHOSTUNREACH",
        io::ErrorKind::NetworkUnreachable => "ENETUNREACH",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::labels::Direction;

    #[test]
    fn a_connection_is_open_until_its_record_is_dropped_and_closed_once_with_its_first_error() {
        let metrics = Metrics::new();
        let labels = Labels::direction(Direction::Inbound);
        let series = TcpSeries::new(&metrics, Peer::Source, &labels);
        let record = series.open();
        record.read(3);
        record.wrote(5);
        assert_eq!((series.opened.value(), series.open.value()), (1, 1));
        record.broke(&io::ErrorKind::ConnectionReset.into());
        record.broke(&io::ErrorKind::BrokenPipe.into());
        drop(record);
        drop(series.open());
        let closed = |errno| metrics.tcp.closed.series(&labels.and("peer", "src").and("errno", errno)).value();
        assert_eq!((closed("ECONNRESET"), closed("EPIPE"), closed("")), (1, 0, 1));
        assert_eq!((series.open.value(), series.read_bytes.value(), series.write_bytes.value()), (0, 3, 5));
    }

    #[test]
    fn a_connection_that_was_counted_aside_is_counted_once_with_all_its_bytes() {
        let metrics = Metrics::new();
        let aside = TcpSeries::aside();
        let early = aside.open();
        early.read(300);
        early.wrote(1200);
        early.broke(&io::ErrorKind::ConnectionReset.into());
        let series = TcpSeries::new(&metrics, Peer::Source, &Labels::direction(Direction::Inbound));
        let record = series.take_over(&aside);
        drop(early);
        record.read(1);
        assert_eq!((series.opened.value(), series.open.value()), (1, 1));
        assert_eq!((series.read_bytes.value(), series.write_bytes.value()), (301, 1200));
        assert_eq!(metrics.tcp.closed.scrape(std::time::Instant::now()).len(), 1, "only the series of orderly ends");
    }
}
