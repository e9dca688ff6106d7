//! An operator for tests: the discovery service over TLS on loopback, whose every stream the test answers by hand.

use super::{Client, Config, HostPort, Inquiry, Metrics};
use crate::{
    identity::OperatorCredentials,
    upstream::{directory::Directory, own::Own},
};
use conduit_model::{
    Target, Version,
    wire::{
        WatchRequest, WatchResponse,
        discovery_server::{Discovery, DiscoveryServer},
        watch_request::Message as Request,
        watch_response::Update as Message,
    },
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A folder with the files that a proxy is given, and the key that signs operators' certificates.
pub(crate) struct Trust {
    dir: tempfile::TempDir,
    authority: rcgen::Issuer<'static, rcgen::KeyPair>,
}

/// An operator that listens on loopback; ends with all its connections when dropped.
pub(crate) struct Operator {
    pub(crate) address: SocketAddr,
    streams: mpsc::Receiver<Stream>,
    tasks: JoinSet<()>,
}

/// One stream of a proxy; ends in order when dropped.
pub(crate) struct Stream {
    /// The credential that it came with.
    pub(crate) authorization: String,
    requests: Streaming<WatchRequest>,
    responses: mpsc::Sender<Result<WatchResponse, Status>>,
}

struct Service(mpsc::Sender<Stream>);

impl Trust {
    /// A new authority, and the token `token-1`.
    pub(crate) fn new() -> Self {
        let trust = Self { dir: tempfile::tempdir().unwrap(), authority: authority() };
        trust.write_bundle();
        trust.write_token("token-1");
        trust
    }

    /// Another authority takes over: its certificate alone is in the bundle.
    pub(crate) fn rotate(&mut self) {
        self.authority = authority();
        self.write_bundle();
    }

    pub(crate) fn write_token(&self, token: &str) {
        std::fs::write(self.credentials().token_file, token).unwrap();
    }

    pub(crate) fn remove_bundle(&self) {
        std::fs::remove_file(self.credentials().trust_file).unwrap();
    }

    pub(crate) fn write_bundle(&self) {
        let key = self.authority.key();
        let pem = authority_params().self_signed(key).unwrap().pem();
        std::fs::write(self.credentials().trust_file, pem).unwrap();
    }

    pub(crate) fn credentials(&self) -> OperatorCredentials {
        let path = |name: &str| -> PathBuf { self.dir.path().join(name) };
        OperatorCredentials { trust_file: path("ca.crt"), token_file: path("token") }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

fn authority_params() -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
}

fn authority() -> rcgen::Issuer<'static, rcgen::KeyPair> {
    rcgen::Issuer::new(authority_params(), rcgen::KeyPair::generate().unwrap())
}

impl Operator {
    /// Listens on `address`, with a certificate of the authority that `trust` has now.
    pub(crate) async fn start(address: SocketAddr, trust: &Trust) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, (announce, streams)) = (trust.acceptor(), mpsc::channel(8));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, announce) = (acceptor.clone(), announce.clone());
                connections.spawn(async move {
                    // A client that does not trust this operator ends the handshake: nothing to serve.
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = TowerToHyperService::new(DiscoveryServer::new(Service(announce)));
                    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Self { address, streams, tasks }
    }

    /// Ends with all its connections; its address is free again.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    /// The next stream that a proxy opens.
    pub(crate) async fn stream(&mut self) -> Stream {
        timeout(PATIENCE, self.streams.recv()).await.expect("a stream is opened in time").unwrap()
    }
}

#[tonic::async_trait]
impl Discovery for Service {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: tonic::Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let authorization = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let (responses, queue) = mpsc::channel(64);
        let stream =
            Stream { authorization: authorization.unwrap_or_default(), requests: request.into_inner(), responses };
        self.0.send(stream).await.unwrap();
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

impl Stream {
    /// The next request.
    pub(crate) async fn request(&mut self) -> Request {
        let request = timeout(PATIENCE, self.requests.message()).await.expect("a request comes in time");
        request.unwrap().expect("the proxy holds its stream").message.unwrap()
    }

    /// The next request, which subscribes to `target`; the versions that it names.
    pub(crate) async fn subscribed(&mut self, target: Target) -> (Option<Version>, Option<Version>) {
        match self.request().await {
            Request::Subscribe(subscribe) if subscribe.target == Some(target.to_wire()) => {
                (Version::from_bytes(&subscribe.config_version), Version::from_bytes(&subscribe.endpoints_version))
            }
            other => panic!("expected a subscription to {target:?}, got {other:?}"),
        }
    }

    /// Sends an update.
    pub(crate) async fn tell(&self, target: Target, version: Version, update: Message) {
        let (target, version) = (Some(target.to_wire()), version.to_bytes());
        self.responses.send(Ok(WatchResponse { target, version, update: Some(update) })).await.unwrap();
    }

    /// The next request, which answers an update; why it was rejected, or nothing.
    pub(crate) async fn answer(&mut self) -> String {
        match self.request().await {
            Request::Acknowledge(acknowledge) => acknowledge.rejected,
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    /// Breaks the stream.
    pub(crate) async fn fail(self, status: Status) {
        self.responses.send(Err(status)).await.unwrap();
    }
}

/// A running client and what it fills; ends when dropped.
pub(crate) struct Running {
    pub(crate) directory: Arc<Directory>,
    pub(crate) own: Arc<Own>,
    pub(crate) inquiry: Inquiry,
    pub(crate) metrics: Metrics,
    _task: JoinSet<()>,
}

/// Starts a client of the operator at `operator`.
pub(crate) fn client(operator: SocketAddr, trust: &Trust, idle: Duration) -> Running {
    let (directory, wanted) = Directory::new();
    let (own, metrics) = (Own::new(), Metrics::new(tokio::time::Instant::now()));
    let operator = HostPort { host: operator.ip().to_string(), port: operator.port() };
    let config = Config { operator, credentials: trust.credentials(), idle };
    let (client, inquiry) = Client::new(config, directory.clone(), wanted, own.clone(), metrics.clone());
    let mut task = JoinSet::new();
    task.spawn(client.run());
    Running { directory, own, inquiry, metrics, _task: task }
}
