//! The admin server: readiness, liveness, metrics and probes for those who can reach the pod; configuration, log level
//! and shutdown for those inside it. Runs on the control thread, apart from traffic.
//!
//! Each connection carries one request and is closed within a bound, and where there are as many as there may be, the
//! oldest makes room for the next. So no peer can keep the kubelet's probes out: a probe is answered long before it is the
//! oldest.

mod config;
mod identity;
mod page;
#[cfg(test)]
mod tests;

use super::logging::{LogControl, LogError};
use crate::{
    discovery::Inquiry,
    identity::Identity,
    upstream::{directory::Directory, own::Own},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use page::{Page, Refusal};
use prometheus_client::registry::Registry;
use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet, yield_now},
    time::{sleep, timeout},
};

/// Connections at once.
const CONNECTIONS: usize = 64;
/// From the first byte of a request to the last of its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest head of a request, and the smallest buffer that hyper takes.
const HEAD_LIMIT: usize = 8 * 1024;
/// The largest body of a request: directives of a log filter.
const BODY_LIMIT: usize = 4 * 1024;
/// How long the application may take to accept a probe's connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long nothing is accepted after the kernel refused to accept, as it does where descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the pages show and change.
pub(super) struct Admin {
    pub(super) registry: Registry,
    pub(super) directory: Arc<Directory>,
    pub(super) own: Arc<Own>,
    pub(super) identity: Arc<Identity>,
    pub(super) discovery: Inquiry,
    pub(super) log: LogControl,
    /// Where probes find the application: the pod's primary address, as the kubelet's own probes do.
    pub(super) pod_ip: IpAddr,
    pub(super) probe_ports: Vec<u16>,
    /// Turns true when the proxy has begun to shut down.
    pub(super) draining: watch::Receiver<bool>,
    /// Takes a message when somebody asks for shutdown.
    pub(super) shutdown: mpsc::Sender<()>,
}

/// Serves for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let mut connections = JoinSet::new();
    let mut oldest_first = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                while connections.try_join_next().is_some() {}
                oldest_first.retain(|connection: &AbortHandle| !connection.is_finished());
                if oldest_first.len() >= CONNECTIONS
                    && let Some(oldest) = oldest_first.pop_front()
                {
                    oldest.abort();
                }
                oldest_first.push_back(connections.spawn(serve_connection(stream, peer, admin.clone())));
                // Of many that come at once, each is looked at before it can be the oldest.
                yield_now().await;
            }
            Err(e) => {
                tracing::warn!("admin: cannot accept: {e}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, admin: Arc<Admin>) {
    let service = service_fn(|request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(request, peer.ip()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!(%peer, "admin: {e}"),
        Err(_) => tracing::debug!(%peer, "admin: a request was not over within its time"),
    }
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Full<Bytes>> {
        let uri = request.uri();
        match page::find(request.method(), uri.path(), uri.query(), peer, &self.probe_ports) {
            Ok(page) => self.give(page, request).await,
            Err(Refusal { status, reason }) => text(status, reason),
        }
    }

    async fn give(&self, page: Page, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match page {
            Page::Ready if *self.draining.borrow() => text(StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Page::Ready => self.ready(),
            Page::Live => text(StatusCode::OK, "live"),
            Page::Metrics => self.metrics(),
            Page::Probe { port } => self.probe(port).await,
            Page::Config => self.config().await,
            Page::Identity => json(&identity::view(&self.identity)),
            Page::LogLevel => log_level(self.log.directives()),
            Page::SetLogLevel => self.set_log_level(request.into_body()).await,
            Page::Shutdown => {
                // A full queue says that it was asked for already.
                let _ = self.shutdown.try_send(());
                text(StatusCode::OK, "shutting down")
            }
        }
    }

    /// Whether the proxy can take part in the mesh. One whose certificate has expired stays ready: what is not of the
    /// mesh, and what is open, goes on.
    fn ready(&self) -> Response<Full<Bytes>> {
        if self.identity.credentials().is_some() {
            return text(StatusCode::OK, "ready");
        }
        let failure = self.identity.progress().borrow().failure.clone();
        let reason = failure.unwrap_or_else(|| "the operator has not answered yet".to_owned());
        text(StatusCode::SERVICE_UNAVAILABLE, format!("no certificate yet: {reason}"))
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let mut page = String::new();
        match prometheus_client::encoding::text::encode(&mut page, &self.registry) {
            Ok(()) => respond(StatusCode::OK, OPEN_METRICS, page),
            Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be written: {e}")),
        }
    }

    async fn probe(&self, port: u16) -> Response<Full<Bytes>> {
        let application = SocketAddr::new(self.pod_ip, port);
        let failed = match timeout(PROBE_TIMEOUT, TcpStream::connect(application)).await {
            Ok(Ok(_)) => return text(StatusCode::OK, format!("{application} accepts connections")),
            Ok(Err(e)) => e.to_string(),
            Err(_) => format!("no answer within {} s", PROBE_TIMEOUT.as_secs()),
        };
        text(StatusCode::SERVICE_UNAVAILABLE, format!("{application}: {failed}"))
    }

    async fn config(&self) -> Response<Full<Bytes>> {
        let snapshot = self.discovery.snapshot().await;
        json(&config::view(&self.directory, &self.own, snapshot.as_ref()))
    }

    async fn set_log_level(&self, body: Incoming) -> Response<Full<Bytes>> {
        let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
            return text(StatusCode::PAYLOAD_TOO_LARGE, format!("expected at most {BODY_LIMIT} bytes"));
        };
        let body = body.to_bytes();
        let Ok(directives) = std::str::from_utf8(body.trim_ascii()) else {
            return text(StatusCode::BAD_REQUEST, format!("expected {}", conduit_model::settings::LOG.expects));
        };
        log_level(self.log.replace(directives).and_then(|()| self.log.directives()))
    }
}

fn log_level(directives: Result<String, LogError>) -> Response<Full<Bytes>> {
    match directives {
        Ok(directives) => text(StatusCode::OK, directives),
        Err(e @ LogError::Directives { .. }) => text(StatusCode::BAD_REQUEST, e.to_string()),
        Err(e @ LogError::Unavailable(_)) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

fn json(view: &serde_json::Value) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, "application/json", format!("{view:#}\n"))
}

fn text(status: StatusCode, line: impl Into<String>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", line.into() + "\n")
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
