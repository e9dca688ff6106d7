//! Proxies of an operator without a cluster, from a token in a file to a discovery stream, over TCP and TLS.

use crate::{
    app::{
        Flags, admin,
        folders::{Authority, BUNDLE, TOKENS},
        mesh::{self, Listeners, Mesh},
        tasks::Tasks,
    },
    credential::{
        TokensFile,
        fake::{FakeMesh, signing_request},
    },
    index::{Index, Kind, manifests::objects},
    issuer::Lifetimes,
};
use clap::Parser;
use conduit_model::{
    Target,
    wire::{
        self,
        discovery_client::DiscoveryClient,
        identity::{CertifyRequest, CertifyResponse, identity_client::IdentityClient},
        watch_request::Message,
        watch_response::Update,
    },
};
use hyper_util::rt::TokioIo;
use prometheus_client::{encoding::text::encode, registry::Registry};
use rcgen::KeyPair;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint, Uri},
};

const MANIFESTS: &str = "\
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web-1}
spec: {serviceAccountName: web, containers: []}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: db-0}
spec: {serviceAccountName: db, containers: []}
status: {podIP: 10.1.0.2}
";
const LISTED: &str = "\
- {token: one, namespace: shop, serviceAccount: web, pod: web-1}
- {token: two, namespace: shop, serviceAccount: db, pod: db-0}
- {token: wrong, namespace: shop, serviceAccount: web, pod: db-0}
";

struct Operator {
    identity: SocketAddr,
    discovery: SocketAddr,
    folder: tempfile::TempDir,
    registry: Registry,
    mesh: Mesh,
    _tasks: Tasks,
}

impl Operator {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TOKENS), LISTED).unwrap();
        let index = Index::new("cluster.local");
        let all = objects(MANIFESTS, "cluster.local").unwrap();
        for kind in Kind::ALL {
            index.reset(kind, all.iter().filter(|object| object.key().kind == kind).cloned().collect());
        }
        let (issuer, issuing) = watch::channel(None);
        let lifetimes = Lifetimes::default();
        Authority::new(lifetimes, folder.path(), issuer).settle(OffsetDateTime::now_utc()).await.unwrap();
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners { identity: listen().await, discovery: listen().await };
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let (identity, discovery) = (address(&listeners.identity), address(&listeners.discovery));
        let flags = Flags::parse_from(["conduit-operator", "--manifests=x", "--identity-dir=x"]);
        let credentials = Arc::new(TokensFile::new(folder.path().join(TOKENS)));
        let bundle = watch::Sender::new(None);
        let served_until = Box::new(|_| {});
        let parts = mesh::Parts { index, credentials, issuer: issuing, lifetimes, bundle, served_until };
        let (mut tasks, mut registry) = (Tasks::new(), admin::registry());
        let mesh = mesh::start(&mut tasks, &flags, &mut registry, listeners, parts).unwrap();
        while !mesh.conditions.iter().all(|condition| (condition.met)()) {
            tokio::task::yield_now().await;
        }
        Self { identity, discovery, folder, registry, mesh, _tasks: tasks }
    }

    /// A client that trusts what the file says.
    fn client(&self, certificate: Option<(&CertifyResponse, &KeyPair)>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(self.folder.path().join(BUNDLE)).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match certificate {
            Some((certified, key)) => {
                let chain = certified.certificate_chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    async fn certify(&self, token: &str, key: &KeyPair) -> Result<CertifyResponse, Status> {
        let mut request = Request::new(CertifyRequest { signing_request: signing_request(key) });
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let channel = connect(self.identity, self.client(None)).await.unwrap();
        IdentityClient::new(channel).certify(request).await.map(tonic::Response::into_inner)
    }

    async fn watch(&self, client: ClientConfig) -> Result<Proxy, Status> {
        let (requests, rx) = mpsc::channel(4);
        let channel = connect(self.discovery, client).await.map_err(|error| Status::from_error(error.into()))?;
        let updates = DiscoveryClient::new(channel).watch(ReceiverStream::new(rx)).await?.into_inner();
        Ok(Proxy { requests, updates })
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }
}

async fn connect(address: SocketAddr, client: ClientConfig) -> Result<Channel, tonic::transport::Error> {
    let connector = TlsConnector::from(Arc::new(client));
    let connect = move |_: Uri| {
        let connector = connector.clone();
        async move {
            let tls = connector.connect("localhost".try_into().unwrap(), TcpStream::connect(address).await?).await?;
            Ok::<_, io::Error>(TokioIo::new(tls))
        }
    };
    Endpoint::from_static("https://localhost").connect_with_connector(tower::service_fn(connect)).await
}

struct Proxy {
    requests: mpsc::Sender<wire::WatchRequest>,
    updates: Streaming<wire::WatchResponse>,
}

impl Proxy {
    /// The inbound configuration that it is told.
    async fn inbound(&mut self) -> wire::Inbound {
        let subscribe = wire::Subscribe { target: Some(Target::Inbound.to_wire()), ..Default::default() };
        self.requests.send(wire::WatchRequest { message: Some(Message::Subscribe(subscribe)) }).await.unwrap();
        let response = timeout(Duration::from_secs(10), self.updates.message()).await.unwrap().unwrap().unwrap();
        let Some(Update::Inbound(inbound)) = response.update else { panic!("{response:?}") };
        inbound
    }
}

#[tokio::test]
async fn a_token_buys_a_certificate_and_the_certificate_a_stream_about_its_pod_alone() {
    let operator = Operator::start().await;
    for (token, pod) in [("one", "web-1"), ("two", "db-0")] {
        let key = KeyPair::generate().unwrap();
        let certified = operator.certify(token, &key).await.unwrap();
        let mut proxy = operator.watch(operator.client(Some((&certified, &key)))).await.unwrap();
        let inbound = proxy.inbound().await;
        assert_eq!(inbound.workload.unwrap().pod, pod);
    }
    assert!(operator.metrics().contains("conduit_identity_certificates_issued_total 2\n"), "{}", operator.metrics());
    assert!(operator.mesh.discovery.programmed().await.is_empty());
}

#[tokio::test]
async fn a_token_that_is_not_listed_or_of_another_account_buys_nothing() {
    let operator = Operator::start().await;
    for (token, said) in
        [("three", "the token was refused: "), ("wrong", "the pod does not run as the service account")]
    {
        let status = operator.certify(token, &KeyPair::generate().unwrap()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().starts_with(said), "{}", status.message());
    }
}

#[tokio::test]
async fn discovery_takes_no_connection_without_a_certificate_of_the_mesh_and_counts_each() {
    let operator = Operator::start().await;
    let stranger = FakeMesh::new();
    let mut foreign = stranger.client(Some(&stranger.web("web-1", None)));
    // The stranger trusts this operator, as everybody could who has seen the ConfigMap.
    foreign.dangerous().set_certificate_verifier(trusting(&operator));
    for (client, reason) in [(operator.client(None), "no_certificate"), (foreign, "untrusted")] {
        assert!(timeout(Duration::from_secs(10), operator.watch(client)).await.unwrap().is_err());
        let counted = format!("conduit_discovery_connections_refused_total{{reason=\"{reason}\"}} 1\n");
        assert!(operator.metrics().contains(&counted), "{}", operator.metrics());
    }
}

fn trusting(operator: &Operator) -> Arc<rustls::client::WebPkiServerVerifier> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(operator.folder.path().join(BUNDLE)).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}

#[tokio::test]
async fn a_silent_client_of_discovery_holds_up_nobody_else() {
    let operator = Operator::start().await;
    let silent = TcpStream::connect(operator.discovery).await.unwrap();
    let key = KeyPair::generate().unwrap();
    let certified = operator.certify("one", &key).await.unwrap();
    let client = operator.client(Some((&certified, &key)));
    let mut proxy = timeout(Duration::from_secs(4), operator.watch(client)).await.unwrap().unwrap();
    proxy.inbound().await;
    drop(silent);
}

#[tokio::test]
async fn one_address_with_many_silent_connections_does_not_keep_others_from_shaking_hands() {
    let operator = Operator::start().await;
    let key = KeyPair::generate().unwrap();
    for port in [operator.identity, operator.discovery] {
        let mut silent = Vec::new();
        for _ in 0..300 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            silent.push(socket.connect(port).await.unwrap());
        }
        // Less than the operator waits for any one of them.
        let certified = timeout(Duration::from_secs(4), operator.certify("one", &key)).await.unwrap().unwrap();
        let client = operator.client(Some((&certified, &key)));
        timeout(Duration::from_secs(4), operator.watch(client)).await.unwrap().unwrap().inbound().await;
    }
    let refused = "conduit_discovery_connections_refused_total{reason=\"too_many\"} 236\n";
    assert!(operator.metrics().contains(refused), "{}", operator.metrics());
}

#[tokio::test]
async fn one_address_has_a_bounded_number_of_connections_that_ask_nothing() {
    let operator = Operator::start().await;
    let connector = TlsConnector::from(Arc::new(operator.client(None)));
    let connect = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let tcp = socket.connect(operator.identity).await.unwrap();
        connector.connect("localhost".try_into().unwrap(), tcp).await
    };
    let mut idle = Vec::new();
    for _ in 0..64 {
        idle.push(connect().await.unwrap());
    }
    assert!(connect().await.is_err());
    operator.certify("one", &KeyPair::generate().unwrap()).await.expect("another address is served");
    drop(idle);
    let again = async { while connect().await.is_err() {} };
    timeout(Duration::from_secs(10), again).await.expect("places are given back");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_shakes_hands_is_let_go_and_counted() {
    let operator = Operator::start().await;
    let mut silent = TcpStream::connect(operator.discovery).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    let counted = "conduit_discovery_connections_refused_total{reason=\"timeout\"} 1\n";
    assert!(operator.metrics().contains(counted), "{}", operator.metrics());
}

#[tokio::test]
async fn a_message_that_is_too_long_for_a_request_ends_its_stream_and_is_counted() {
    let operator = Operator::start().await;
    let key = KeyPair::generate().unwrap();
    let certified = operator.certify("one", &key).await.unwrap();
    let mut proxy = operator.watch(operator.client(Some((&certified, &key)))).await.unwrap();
    let rejected = "x".repeat(100_000);
    let acknowledge = wire::Acknowledge { rejected, ..Default::default() };
    proxy.requests.send(wire::WatchRequest { message: Some(Message::Acknowledge(acknowledge)) }).await.unwrap();
    let status = timeout(Duration::from_secs(10), proxy.updates.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("what was sent is no request: "), "{}", status.message());
    let counted = "conduit_discovery_requests_refused_total{reason=\"unreadable\"} 1\n";
    assert!(operator.metrics().contains(counted), "{}", operator.metrics());
}
