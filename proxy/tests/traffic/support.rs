//! Proxies, servers and clients for the cases.

use crate::identity::fake::Authority;
use bytes::Bytes;
use conduit_model::{
    Endpoint, EndpointProxy, EndpointUpdate, Forward, Inbound, InboundMtls, InboundPort, InboundService, ObjectRef,
    Outbound, OutboundTls, Protocol, RequestMatch, Route, ServicePort, TrustDomain, Workload, WorkloadKind,
};
use conduit_proxy::{
    identity::{Alpn, Credentials, Identity, TlsError},
    inbound,
    listen::{
        drain::{self, Drain, DrainSignal},
        original::OriginalDestination,
        room::{Bounds, Room},
        socket::{Sharing, bind},
    },
    outbound,
    record::{
        Metrics,
        access::{AccessFormat, AccessLog},
    },
    tls::TlsStream,
    upstream::{
        directory::{Directory, Held},
        own::Own,
    },
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use prometheus_client::{encoding::text, registry::Registry};
use std::{
    cell::RefCell,
    convert::Infallible,
    future::Future,
    io::Write,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, LocalSet, spawn_local},
};

/// How long any case may take.
const LIMIT: Duration = Duration::from_secs(20);

pub const DETECT_TIMEOUT: Duration = Duration::from_millis(100);

/// Runs a case on one thread, as a worker runs.
pub fn run(case: impl Future<Output = ()>) {
    run_within(LIMIT, case);
}

/// Runs a case that stops the clock, and lets so much time pass.
pub fn run_within(limit: Duration, case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { tokio::time::timeout(limit, case).await.expect("the case hangs") });
}

pub fn workload(name: &str) -> Workload {
    Workload {
        namespace: "shop".into(),
        service_account: name.into(),
        kind: WorkloadKind::Deployment,
        name: name.into(),
        pod: format!("{name}-1"),
    }
}

pub fn domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

pub fn service_port() -> ServicePort {
    ServicePort { namespace: "shop".into(), name: "web".into(), port: 80, fqdn: "web.shop.svc.cluster.local".into() }
}

pub fn route(name: &str, condition: RequestMatch) -> Route {
    let source = ObjectRef { kind: "ServiceProfile".into(), namespace: "shop".into(), name: "web".into() };
    Route { name: name.into(), condition, response_classes: Vec::new(), source }
}

pub fn endpoint(address: SocketAddr, meshed: bool) -> Endpoint {
    let proxy = if meshed { EndpointProxy::Mtls } else { EndpointProxy::None };
    Endpoint { address, workload: workload("web"), proxy }
}

/// What proxies have written to their access logs.
#[derive(Clone, Default)]
pub struct Page(Arc<Mutex<Vec<u8>>>);

thread_local! {
    /// Where the proxies of this case write.
    static PAGE: RefCell<Option<Page>> = const { RefCell::new(None) };
}

/// Has the proxies that are started from now on write an access log as JSON.
pub fn log() -> Page {
    let page = Page::default();
    PAGE.set(Some(page.clone()));
    page
}

fn metrics() -> Arc<Metrics> {
    let page = PAGE.with_borrow(Clone::clone);
    Metrics::logging(page.map(|page| AccessLog::start(AccessFormat::Json, page).unwrap()))
}

impl Page {
    /// Ends the logs of the proxies with these metrics, and takes all that is on the page.
    pub fn lines(&self, metrics: &[&Arc<Metrics>]) -> Vec<serde_json::Value> {
        metrics.iter().for_each(|metrics| metrics.end_log(LIMIT));
        let text = std::mem::take(&mut *self.0.lock().unwrap());
        text.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An outbound proxy in front of the Service `web.shop`.
pub struct OutboundProxy {
    pub address: SocketAddr,
    pub destination: Held,
    pub metrics: Arc<Metrics>,
    /// Dropped, it would drain the proxy.
    _drain: DrainSignal,
}

impl OutboundProxy {
    /// One that has no certificate, and calls nobody who would ask for it.
    pub fn balancing(protocol: Protocol, endpoints: &[Endpoint]) -> Self {
        Self::meshed(protocol, endpoints, Identity::new(domain()))
    }

    /// One that is `identity` to its peers.
    pub fn meshed(protocol: Protocol, endpoints: &[Endpoint], identity: Arc<Identity>) -> Self {
        let outbound = Outbound {
            protocol,
            service: Some(service_port()),
            routes: Vec::new(),
            forward: Forward::Balance,
            tls: OutboundTls::DEFAULT,
        };
        let proxy = Self::of(outbound, "10.96.0.1:80".parse().unwrap(), identity);
        proxy.destination.apply_endpoints(EndpointUpdate::Whole(endpoints.to_vec()));
        proxy
    }

    pub fn start(outbound: Outbound, destination: SocketAddr) -> Self {
        Self::of(outbound, destination, Identity::new(domain()))
    }

    pub fn of(outbound: Outbound, destination: SocketAddr, identity: Arc<Identity>) -> Self {
        Self::told(Own::new(), outbound, destination, identity)
    }

    /// One that was told `own` of itself.
    pub fn told(own: Arc<Own>, outbound: Outbound, destination: SocketAddr, identity: Arc<Identity>) -> Self {
        let (directory, _wanted) = Directory::new(own);
        let destination = directory.destination(destination);
        destination.apply_config(Arc::new(outbound));
        let listener = bind("127.0.0.1:0".parse().unwrap(), Sharing::Alone).unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, (_drain, drained)) = (metrics(), drain::channel());
        spawn_local(outbound::serve(outbound::Config {
            listeners: vec![listener],
            original: OriginalDestination::Fixed(destination.address()),
            room: Room::new(Bounds::shared(10_000, 100)),
            directory,
            identity,
            pod_ips: Vec::new(),
            metrics: metrics.clone(),
            drain: drained,
            discovery_timeout: Duration::from_secs(1),
            detect_timeout: DETECT_TIMEOUT,
            connect_timeout: Duration::from_secs(1),
            pool_idle_timeout: Duration::from_secs(3),
        }));
        Self { address, destination, metrics, _drain }
    }
}

/// An inbound proxy in front of an application.
pub struct InboundProxy {
    pub address: SocketAddr,
    pub own: Arc<Own>,
    pub inbound: Inbound,
    pub authority: Rc<Authority>,
    pub metrics: Arc<Metrics>,
    pub drain: DrainSignal,
    pub drained: Drain,
    pub served: JoinHandle<std::io::Result<()>>,
}

/// Whether a proxy can prove who it is.
enum Known {
    Certified,
    ByName,
}

/// What the pod of the Service `web.shop` is told of its one port.
pub fn inbound_port(application: SocketAddr, protocol: Protocol) -> InboundPort {
    let service = InboundService {
        service: service_port(),
        hosts: vec!["web".into(), "web.shop.svc.cluster.local".into()],
        routes: Vec::new(),
    };
    InboundPort {
        ports: application.port().into(),
        protocol,
        services: vec![service],
        mtls: InboundMtls::DEFAULT,
        probes: Vec::new(),
    }
}

impl InboundProxy {
    pub fn before(application: SocketAddr, protocol: Protocol) -> Self {
        Self::with_pod_ip(application, application, protocol)
    }

    pub fn with_pod_ip(application: SocketAddr, pod: SocketAddr, protocol: Protocol) -> Self {
        let inbound = Inbound { ports: vec![inbound_port(application, protocol)], ..Inbound::of(workload("web")) };
        Self::start(application, pod, Some(inbound), Vec::new(), Rc::new(Authority::new()), Known::Certified)
    }

    /// Another of the same mesh and workload.
    pub fn beside(&self, application: SocketAddr, protocol: Protocol) -> Self {
        let inbound = Inbound { ports: vec![inbound_port(application, protocol)], ..Inbound::of(workload("web")) };
        Self::start(application, application, Some(inbound), Vec::new(), self.authority.clone(), Known::Certified)
    }

    /// One that was told this, and whose default gateways are these.
    pub fn told(application: SocketAddr, inbound: Inbound, gateways: Vec<IpAddr>) -> Self {
        Self::start(application, application, Some(inbound), gateways, Rc::new(Authority::new()), Known::Certified)
    }

    /// One that serves so many clients by HTTP/1, and whose default gateways are these.
    pub fn with_room(application: SocketAddr, bounds: Bounds, gateways: Vec<IpAddr>) -> Self {
        let ports = vec![inbound_port(application, Protocol::Http1)];
        let inbound = Some(Inbound { ports, ..Inbound::of(workload("web")) });
        Self::within(bounds, application, application, inbound, gateways, Rc::new(Authority::new()), Known::Certified)
    }

    /// One that was told nothing.
    pub fn untold(application: SocketAddr) -> Self {
        Self::start(application, application, None, Vec::new(), Rc::new(Authority::new()), Known::Certified)
    }

    /// One that has no certificate yet.
    pub fn uncertified(application: SocketAddr) -> Self {
        let ports = vec![inbound_port(application, Protocol::Detect)];
        let inbound = Inbound { ports, ..Inbound::of(workload("web")) };
        let authority = Rc::new(Authority::new());
        Self::start(application, application, Some(inbound), Vec::new(), authority, Known::ByName)
    }

    fn start(
        application: SocketAddr,
        pod: SocketAddr,
        inbound: Option<Inbound>,
        gateways: Vec<IpAddr>,
        authority: Rc<Authority>,
        known: Known,
    ) -> Self {
        Self::within(Bounds::shared(10_000, 100), application, pod, inbound, gateways, authority, known)
    }

    fn within(
        bounds: Bounds,
        application: SocketAddr,
        pod: SocketAddr,
        inbound: Option<Inbound>,
        gateways: Vec<IpAddr>,
        authority: Rc<Authority>,
        known: Known,
    ) -> Self {
        let own = Own::new();
        if let Some(inbound) = &inbound {
            own.apply(Arc::new(inbound.clone()));
        }
        let listener = bind("127.0.0.1:0".parse().unwrap(), Sharing::Alone).unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, (drain, drained)) = (metrics(), drain::channel());
        let served = spawn_local(inbound::serve(inbound::Config {
            listeners: vec![listener],
            original: OriginalDestination::Fixed(application),
            room: Room::new(bounds),
            pod_ips: vec![pod.ip()],
            gateways,
            own: own.clone(),
            identity: match known {
                Known::Certified => authority.identity("web"),
                Known::ByName => Identity::new(authority.domain.clone()),
            },
            metrics: metrics.clone(),
            drain: drained.clone(),
            detect_timeout: DETECT_TIMEOUT,
            connect_timeout: Duration::from_millis(300),
            pool_idle_timeout: Duration::from_secs(3),
        }));
        let inbound = inbound.unwrap_or_else(|| Inbound::of(workload("web")));
        Self { address, own, inbound, authority, metrics, drain, drained, served }
    }

    /// A peer's connection, as the service account `client`.
    pub async fn peer(&self, alpn: Alpn) -> TlsStream<TcpStream> {
        self.connect(&self.authority.credentials("client"), alpn).await.unwrap()
    }

    /// A connection by these credentials.
    pub async fn connect(&self, credentials: &Credentials, alpn: Alpn) -> Result<TlsStream<TcpStream>, TlsError> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let web = self.authority.domain.identity("shop", "web");
        credentials.connect(stream, self.address.ip(), &web, alpn).await
    }
}

/// Both proxies in a row before an application: the address to connect to, and the proxies.
pub fn chain(application: SocketAddr, protocol: Protocol) -> (OutboundProxy, InboundProxy) {
    let inbound = InboundProxy::before(application, protocol);
    let identity = inbound.authority.identity("client");
    let outbound = OutboundProxy::meshed(protocol, &[endpoint(inbound.address, true)], identity);
    (outbound, inbound)
}

/// A port at which nothing listens.
pub async fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A server that treats each connection as `serve` does, with its number.
pub async fn server<F: Future<Output = ()> + 'static>(serve: impl Fn(TcpStream, usize) -> F + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            spawn_local(serve(stream, number));
        }
    });
    address
}

/// The proxy of a pod of the Service `web.shop`, as far as its peers can tell: it treats each connection as `serve` does,
/// with its number, once both have proved who they are.
pub async fn peer_server<F: Future<Output = ()> + 'static>(
    authority: &Authority,
    serve: impl Fn(TlsStream<TcpStream>, usize) -> F + Clone + 'static,
) -> SocketAddr {
    let credentials = authority.credentials("web");
    self::server(move |stream, number| {
        let (credentials, serve) = (credentials.clone(), serve.clone());
        async move {
            if let Ok((stream, _, _)) = credentials.accept(stream).await {
                serve(stream, number).await;
            }
        }
    })
    .await
}

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

/// Runs what belongs to an HTTP/2 connection.
#[derive(Clone)]
pub struct Local;

impl<T: Future + 'static> hyper::rt::Executor<T> for Local {
    fn execute(&self, task: T) {
        spawn_local(async { drop(task.await) });
    }
}

/// An HTTP/1 server.
pub async fn http1_server<F: Future<Output = Response<Body>> + 'static>(
    answer: impl Fn(Request<Incoming>) -> F + Clone + 'static,
) -> SocketAddr {
    server(move |stream, _| {
        let answer = answer.clone();
        async move {
            let service = hyper::service::service_fn(|request| {
                let answer = answer(request);
                async { Ok::<_, Infallible>(answer.await) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.auto_date_header(false);
            let _ = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        }
    })
    .await
}

/// An HTTP/2 server that takes so many streams at once on a connection.
pub async fn http2_server<F: Future<Output = Response<Body>> + 'static>(
    streams: u32,
    answer: impl Fn(Request<Incoming>, usize) -> F + Clone + 'static,
) -> SocketAddr {
    server(move |stream, number| {
        let answer = answer.clone();
        async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(request, number);
                async { Ok::<_, Infallible>(answer.await) }
            });
            let mut builder = hyper::server::conn::http2::Builder::new(Local);
            builder.max_concurrent_streams(streams);
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

pub type Http2Client = hyper::client::conn::http2::SendRequest<Body>;

pub async fn http2_client(address: SocketAddr) -> Http2Client {
    http2_client_on(TcpStream::connect(address).await.unwrap()).await
}

pub async fn http2_client_on(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Http2Client {
    let (sender, connection) = hyper::client::conn::http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
    spawn_local(async { drop(connection.await) });
    sender
}

/// Sends `text` on a new connection, closes that direction, and gives all that comes back.
pub async fn exchange(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Sends `text` and gives what comes back until it ends with `end`.
pub async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str, end: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    read_until(stream, end).await
}

pub async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        let length = stream.read_buf(&mut all).await.unwrap();
        assert!(length > 0, "ended early: {:?}", String::from_utf8_lossy(&all));
    }
    String::from_utf8(all).unwrap()
}

/// Everything that `metrics` shows.
pub fn shown(metrics: &Arc<Metrics>) -> String {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut shown = String::new();
    text::encode(&mut shown, &registry).unwrap();
    shown
}

/// The sum of the series called `name` whose labels contain each of `labels`, such as `peer="src"`.
pub fn sum(metrics: &Arc<Metrics>, name: &str, labels: &[&str]) -> f64 {
    let shown = shown(metrics);
    let series = shown.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "));
    series
        .filter(|(found, _)| labels.iter().all(|label| found.split(',').any(|found| found == *label)))
        .map(|(_, value)| value.parse::<f64>().unwrap())
        .sum()
}

/// Waits until `name` with `labels` is `expected`: what a proxy counts last, it counts after the client has seen it.
pub async fn wait_for(metrics: &Arc<Metrics>, name: &str, labels: &[&str], expected: f64) {
    for _ in 0..200 {
        if sum(metrics, name, labels) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{name}{labels:?} is not {expected} in\n{}", shown(metrics));
}
