//! The access log: a line for each request, and one for each connection whose bytes are not read, where it is switched on.
//!
//! A line is written from the record that is counted, when that is closed, so that the log and the metrics agree; its last
//! fields are the labels of the series that it was counted in. What comes from traffic (targets, hosts, names in hellos) is
//! in no label, and here it is bounded and escaped: nobody can write a line of his own into the log, nor a long one.
//!
//! Switched off, it is a null pointer in each connection and request. Switched on, a worker puts a line together in memory
//! and goes on: see [`writer`]. A line is lost rather than a request delayed, and counted.
//!
//! Must not know what a request or connection is served by.

mod connection;
mod line;
mod request;
mod writer;

pub(crate) use connection::ConnectionLine;
pub(crate) use request::RequestLine;

pub(super) use request::Ended;

use super::{
    Metrics,
    labels::{Direction, Labels},
};
use crate::outcome::Failure;
use line::{Fields, Line, What};
use std::{
    io::{self, Write},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use writer::Writer;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// The Common Log Format of Apache's server.
    Apache,
}

/// Where lines go.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessFormat,
    writer: Writer,
}

/// What all lines of one connection have in common.
#[derive(Debug)]
pub(crate) struct Conversation {
    metrics: Arc<Metrics>,
    pub(super) direction: Direction,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    /// When it was accepted.
    pub(super) start: Instant,
}

/// What a client asked for in the hello of its own TLS, as far as it is fit for a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsNames {
    /// The server's name (RFC 6066 section 3), in lower case: a DNS name, or none.
    pub(crate) sni: Option<Box<str>>,
    /// Names of protocols (RFC 7301) that are printable and short.
    pub(crate) alpn: Vec<Box<str>>,
}

/// What the first bytes of a client say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// More could make them a hello.
    Incomplete,
    /// It is not TLS.
    NotTls,
    Tls(TlsNames),
}

impl AccessLog {
    /// Starts to write lines to `to`, in a thread of its own.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(format: AccessFormat, to: impl Write + Send + 'static) -> io::Result<Self> {
        Ok(Self { format, writer: Writer::start(to)? })
    }

    /// Writes what there is, for as long as `within`, and nothing after.
    pub fn end(&self, within: Duration) {
        self.writer.end(within);
    }
}

impl Conversation {
    /// Of a connection from `client` to `server`; none where the log is switched off.
    pub(crate) fn begin(
        metrics: &Arc<Metrics>,
        direction: Direction,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Option<Rc<Self>> {
        metrics.access.is_some().then(|| {
            let metrics = metrics.clone();
            Rc::new(Self { metrics, direction, client, server, start: Instant::now() })
        })
    }

    /// A request of this connection was refused before it was one.
    pub(crate) fn refused(&self, failure: Failure) {
        let status = Some(failure.row().status.as_u16());
        let what = What::Request {
            request: None,
            status,
            grpc_status: None,
            classification: None,
            response_bytes: 0,
            latency: Duration::ZERO,
        };
        self.write(Fields { endpoint: None, what, error: Some(failure.row().code), labels: &[] });
    }

    /// The connection, which is counted under `labels`, is not served.
    pub(crate) fn unserved(self: &Rc<Self>, labels: &Labels, failure: Failure) {
        ConnectionLine::begin(self, labels).failed(failure.row().code);
    }

    fn write(&self, fields: Fields<'_>) {
        let Some(log) = &self.metrics.access else { return };
        let line = Line { conversation: self, fields };
        let now = SystemTime::now();
        let text = match log.format {
            AccessFormat::Json => line.json(now),
            AccessFormat::Apache => line.apache(now),
        };
        if !log.writer.write(&text) {
            self.metrics.line_lost();
        }
    }
}
