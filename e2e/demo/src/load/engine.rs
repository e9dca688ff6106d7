//! The schedule and the connections: request `n` is due at start + n / rate, whatever became of those before it.
//!
//! As many workers as there may be requests in flight, each with a keep-alive connection of its own, take the next due
//! request from one counter. When all are busy, what comes due waits for one, and its latency runs. It must not know
//! what the requests mean.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::mix::{Expect, Step};
use super::summary::Summary;

/// What the engine is told.
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    pub(super) authority: String,
    pub(super) rate: f64,
    pub(super) steps: Vec<Step>,
    pub(super) duration: Option<Duration>,
    pub(super) connections: usize,
    /// Of a hundred requests.
    pub(super) new_connections: u8,
    pub(super) timeout: Duration,
    pub(super) seed: u64,
}

/// What the caller may look at while it runs, once per request.
pub(super) struct Report<'a> {
    /// The time since [`Report::take`] was last called.
    pub(super) since_last: Duration,
    recent: &'a mut Summary,
    last: &'a Cell<Instant>,
}

impl Report<'_> {
    /// The requests that ended since the last call.
    pub(super) fn take(self) -> Summary {
        self.last.set(Instant::now());
        let mut recent = std::mem::take(self.recent);
        recent.took = self.since_last;
        recent
    }
}

struct Run<F> {
    plan: Plan,
    started: Instant,
    next: Cell<u64>,
    random: RefCell<fastrand::Rng>,
    total: RefCell<Summary>,
    recent: RefCell<Summary>,
    last: Cell<Instant>,
    watch: RefCell<F>,
    stop: CancellationToken,
}

/// Sends until the duration is over or `stop`; what is in flight then is waited for.
pub(super) async fn run<F: FnMut(Report<'_>) + 'static>(plan: Plan, stop: CancellationToken, watch: F) -> Summary {
    let started = Instant::now();
    let workers = plan.connections;
    let run = Rc::new(Run {
        random: RefCell::new(fastrand::Rng::with_seed(plan.seed)),
        plan,
        started,
        next: Cell::new(0),
        total: RefCell::default(),
        recent: RefCell::default(),
        last: Cell::new(started),
        watch: RefCell::new(watch),
        stop,
    });
    let local = LocalSet::new();
    for _ in 0..workers {
        local.spawn_local(Rc::clone(&run).work());
    }
    local.await;
    let mut total = run.total.take();
    total.took = started.elapsed();
    total
}

impl<F: FnMut(Report<'_>)> Run<F> {
    async fn work(self: Rc<Self>) {
        let mut connection = None;
        while let Some(due) = self.take_next() {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.stop.cancelled() => return,
            }
            let (step, fresh) = self.choose();
            if fresh {
                connection = None;
            }
            let sent = tokio::time::timeout(self.plan.timeout, self.send(&step, &mut connection));
            let outcome = sent.await.unwrap_or(Err(Failure::Timeout));
            if outcome.is_err() {
                connection = None;
            }
            self.count(outcome, due.elapsed());
        }
    }

    /// When the next request is due; `None` when the run is over.
    fn take_next(&self) -> Option<Instant> {
        let index = self.next.get();
        let offset = Duration::from_secs_f64(index as f64 / self.plan.rate);
        if self.stop.is_cancelled() || self.plan.duration.is_some_and(|duration| offset >= duration) {
            return None;
        }
        self.next.set(index + 1);
        Some(self.started + offset)
    }

    fn choose(&self) -> (Step, bool) {
        let mut random = self.random.borrow_mut();
        let step = self.plan.steps[random.usize(..self.plan.steps.len())].clone();
        (step, random.u8(..100) < self.plan.new_connections)
    }

    async fn send(&self, step: &Step, connection: &mut Option<SendRequest<Full<Bytes>>>) -> Result<(), Failure> {
        let mut request = self.request(step)?;
        let response = loop {
            let reused = connection.is_some();
            let mut sender = match connection.take() {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            if sender.ready().await.is_err() {
                // The server closed an idle connection: nothing was sent, so nothing has failed.
                if reused {
                    continue;
                }
                return Err(Failure::Reset);
            }
            match sender.try_send_request(request).await {
                Ok(response) => {
                    *connection = Some(sender);
                    break response;
                }
                // Handed back unsent, for the same reason.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(Failure::from(error.into_error())),
                },
            }
        };
        let status = response.status();
        let closes = response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
        let body = response.into_body().collect().await?.to_bytes();
        if closes {
            *connection = None;
        }
        let expected = match step.expect {
            Expect::Success | Expect::Echo => status.is_success(),
            Expect::Status(wanted) => status == wanted,
        };
        match step.expect {
            _ if !expected => Err(Failure::Status(status.as_u16())),
            Expect::Echo if body != step.body => Err(Failure::Body),
            Expect::Success | Expect::Status(_) | Expect::Echo => Ok(()),
        }
    }

    fn request(&self, step: &Step) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::new(Full::new(step.body.clone()));
        *request.method_mut() = step.method.clone();
        *request.uri_mut() = http::Uri::from_static(step.path);
        let host = HeaderValue::from_str(&self.plan.authority).map_err(|_| Failure::Connect)?;
        request.headers_mut().insert(header::HOST, host);
        Ok(request)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect(self.plan.address).await.map_err(|_| Failure::Connect)?;
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }

    fn count(&self, outcome: Result<(), Failure>, latency: Duration) {
        let mut recent = self.recent.borrow_mut();
        for summary in [&mut *self.total.borrow_mut(), &mut *recent] {
            match &outcome {
                Ok(()) => summary.succeeded(latency),
                Err(failure) => summary.failed(&failure.kind(), latency),
            }
        }
        let report = Report { since_last: self.last.get().elapsed(), recent: &mut recent, last: &self.last };
        (self.watch.borrow_mut())(report);
    }
}

/// Why a request has failed, as its user would count it.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    Connect,
    Timeout,
    /// The connection broke before the whole answer had come.
    Reset,
    /// An answer that is not HTTP.
    Protocol,
    Status(u16),
    /// The body that came back is not the one that was sent.
    Body,
}

impl Failure {
    fn kind(&self) -> String {
        match self {
            Self::Connect => "connect".into(),
            Self::Timeout => "timeout".into(),
            Self::Reset => "reset".into(),
            Self::Protocol => "protocol".into(),
            Self::Status(code) => format!("status_{code}"),
            Self::Body => "body".into(),
        }
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() { Self::Protocol } else { Self::Reset }
    }
}

#[cfg(test)]
mod tests;
