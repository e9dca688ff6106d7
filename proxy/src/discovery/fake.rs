//! An operator for tests: the discovery service over TLS on loopback, whose every stream the test answers by hand.

use super::{Client, Config, Inquiry, Metrics};
use crate::{
    identity::{self, HostPort, Identity, fake::Authority},
    upstream::{directory::Directory, own::Own},
};
use conduit_model::{
    SpiffeId, Target, Version,
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
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mesh for a proxy: the authority that certifies it and its operator, and the file that it is given.
pub(crate) struct Trust {
    pub(crate) authority: Authority,
    pub(crate) identity: Arc<Identity>,
    file: tempfile::TempDir,
}

/// An operator that listens on loopback; ends with all its connections when dropped.
pub(crate) struct Operator {
    pub(crate) address: SocketAddr,
    streams: mpsc::Receiver<Stream>,
    tasks: JoinSet<()>,
}

/// One stream of a proxy; ends in order when dropped.
pub(crate) struct Stream {
    /// Who opened it, by the certificate of its connection, and that certificate.
    pub(crate) peer: (SpiffeId, Vec<u8>),
    requests: Streaming<WatchRequest>,
    responses: mpsc::Sender<Result<WatchResponse, Status>>,
}

#[derive(Clone)]
struct Service {
    announce: mpsc::Sender<Stream>,
    peer: (SpiffeId, Vec<u8>),
}

impl Trust {
    /// A new authority, and a proxy of the service account `web` that it has certified.
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        let identity = authority.identity("web");
        let trust = Self { authority, identity, file: tempfile::tempdir().unwrap() };
        trust.write_bundle();
        trust
    }

    /// Another authority takes over: its root alone is in the file and in what the proxy trusts.
    pub(crate) fn rotate(&mut self) {
        self.authority = self.authority.successor();
        self.certify();
        self.write_bundle();
    }

    /// The proxy gets another certificate.
    pub(crate) fn certify(&self) {
        let credentials = self.authority.make(self.authority.request("web"), self.authority.bundle());
        self.identity.set(credentials).unwrap();
    }

    pub(crate) fn write_bundle(&self) {
        std::fs::write(self.trust_file(), self.authority.root_pem()).unwrap();
    }

    pub(crate) fn trust_file(&self) -> PathBuf {
        self.file.path().join("ca.crt")
    }

    /// The operator at `address`, as a proxy is told of it.
    pub(crate) fn operator(&self, address: SocketAddr) -> identity::Operator {
        let address = HostPort { host: address.ip().to_string(), port: address.port() };
        identity::Operator { address, trust_file: self.trust_file() }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let (chain, key) = self.authority.serving("127.0.0.1");
        let roots =
            RootCertStore { roots: vec![webpki::anchor_from_trusted_cert(&self.authority.root()).unwrap().to_owned()] };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let mut config = ServerConfig::builder_with_details(provider, self.authority.clock())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
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
                    let certificate = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
                    let uri = webpki::EndEntityCert::try_from(&certificate)
                        .unwrap()
                        .valid_uri_names()
                        .next()
                        .unwrap()
                        .parse();
                    let peer = (uri.unwrap(), certificate.to_vec());
                    let service = TowerToHyperService::new(DiscoveryServer::new(Service { announce, peer }));
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
        assert!(request.metadata().get("authorization").is_none(), "the certificate says it all");
        let (responses, queue) = mpsc::channel(64);
        let stream = Stream { peer: self.peer.clone(), requests: request.into_inner(), responses };
        self.announce.send(stream).await.unwrap();
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
    client_of(trust.operator(operator), trust.identity.clone(), idle)
}

/// Starts a client that is whoever `identity` is.
pub(crate) fn client_of(operator: identity::Operator, identity: Arc<Identity>, idle: Duration) -> Running {
    let (own, metrics) = (Own::new(), Metrics::new(tokio::time::Instant::now()));
    let (directory, wanted) = Directory::new(own.clone());
    let config = Config { operator, identity, idle };
    let (client, inquiry) = Client::new(config, directory.clone(), wanted, own.clone(), metrics.clone());
    let mut task = JoinSet::new();
    task.spawn(client.run());
    Running { directory, own, inquiry, metrics, _task: task }
}
