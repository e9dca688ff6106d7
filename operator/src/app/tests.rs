//! The webhooks behind the operator's own TLS, asked as the API server asks.

mod proxies;

use super::listen::with_tls;
use axum::{Router, routing::post};
use conduit_webhook_certs::{ServingCertificate, Stored, settle};
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

struct Served {
    address: SocketAddr,
    certificate: Arc<ServingCertificate>,
    closing: CancellationToken,
    server: JoinHandle<()>,
}

fn identity() -> Stored {
    settle(None, &BTreeSet::from(["localhost".to_owned()]), OffsetDateTime::now_utc()).unwrap().stored
}

async fn serve(router: Router) -> Served {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let certificate = Arc::new(ServingCertificate::default());
    let incoming = with_tls(listener, Arc::clone(&certificate), &[b"h2", b"http/1.1"]).unwrap();
    let closing = CancellationToken::new();
    let server = tokio::spawn(crate::admission::serve(incoming, router, closing.clone()));
    Served { address, certificate, closing, server }
}

impl Served {
    async fn connect(&self, bundle: &str, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }
}

fn echo() -> Router {
    Router::new().route("/echo", post(async |body: Bytes| body))
}

fn request(version: Version) -> Request<Full<Bytes>> {
    let request = Request::post("https://localhost/echo").version(version).header("host", "localhost");
    request.body(Full::from("hello")).unwrap()
}

#[tokio::test]
async fn both_versions_of_http_are_served_with_the_certificate_of_the_bundle() {
    let served = serve(echo()).await;
    let identity = identity();
    served.certificate.serve(identity.leaf.as_ref().unwrap()).unwrap();

    let tls = served.connect(&identity.bundle(), b"http/1.1").await.unwrap();
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request(Version::HTTP_11)).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_11));

    let tls = served.connect(&identity.bundle(), b"h2").await.unwrap();
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request(Version::HTTP_2)).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test]
async fn before_a_certificate_is_loaded_and_with_another_bundle_no_connection_is_made() {
    let served = serve(echo()).await;
    let (identity, stranger) = (identity(), identity());
    assert!(served.connect(&identity.bundle(), b"h2").await.is_err());
    served.certificate.serve(identity.leaf.as_ref().unwrap()).unwrap();
    assert!(served.connect(&stranger.bundle(), b"h2").await.is_err());
    assert!(served.connect(&identity.bundle(), b"h2").await.is_ok());
}

#[tokio::test]
async fn a_client_that_says_nothing_holds_up_nobody_else() {
    let served = serve(echo()).await;
    let identity = identity();
    served.certificate.serve(identity.leaf.as_ref().unwrap()).unwrap();
    let silent = TcpStream::connect(served.address).await.unwrap();
    let connected = tokio::time::timeout(Duration::from_secs(4), served.connect(&identity.bundle(), b"h2")).await;
    assert!(connected.unwrap().is_ok());
    drop(silent);
}

#[tokio::test]
async fn a_request_that_has_begun_is_finished_when_the_operator_stops() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&go));
    let handler = move || {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            "done"
        }
    };
    let served = serve(Router::new().route("/echo", post(handler))).await;
    let identity = identity();
    served.certificate.serve(identity.leaf.as_ref().unwrap()).unwrap();
    let tls = served.connect(&identity.bundle(), b"h2").await.unwrap();
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let answer = tokio::spawn(async move { sender.send_request(request(Version::HTTP_2)).await });
    begun.notified().await;
    served.closing.cancel();
    tokio::task::yield_now().await;
    assert!(!served.server.is_finished(), "the server waits for the request");
    go.notify_one();
    let response = answer.await.unwrap().unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "done");
    tokio::time::timeout(Duration::from_secs(5), served.server).await.unwrap().unwrap();
    let refused = TcpStream::connect(served.address).await;
    if let Ok(mut late) = refused {
        assert_eq!(late.read(&mut [0]).await.unwrap_or(0), 0, "nothing is served any more");
    }
}
