//! The whole way to a certificate, over a socket.

use super::*;
use crate::identity::{Identity, fake::Authority, run};
use conduit_model::wire::identity::identity_server::{Identity as Service, IdentityServer};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use rcgen::CertificateSigningRequestParams;
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::CertificateSigningRequestDer;
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokio::{
    net::TcpListener,
    task::{JoinSet, LocalSet},
};
use tokio_rustls::TlsAcceptor;
use tonic::Response;

/// An operator that certifies whoever has the token `good`.
#[derive(Clone)]
struct Operator(Arc<Authority>);

#[tonic::async_trait]
impl Service for Operator {
    async fn certify(&self, call: tonic::Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        if call.metadata().get("authorization").unwrap() != "Bearer good" {
            return Err(Status::unauthenticated("the token is of another audience"));
        }
        let csr = CertificateSigningRequestDer::from(call.into_inner().signing_request);
        let key = CertificateSigningRequestParams::from_der(&csr).unwrap().public_key;
        let chain = self.0.sign(self.0.request("web"), &key);
        Ok(Response::new(CertifyResponse {
            certificate_chain: chain.iter().map(|certificate| certificate.to_vec()).collect(),
            trust_bundle: vec![self.0.root().to_vec()],
        }))
    }
}

/// Serves on loopback with a certificate for `name`.
async fn serve(authority: &Arc<Authority>, name: &str, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (chain, key) = authority.serving(name);
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (acceptor, operator) = (TlsAcceptor::from(Arc::new(config)), Operator(authority.clone()));
    tasks.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            let service = TowerToHyperService::new(IdentityServer::new(operator.clone()));
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(tls), service).await;
        }
    });
    address
}

fn service(address: SocketAddr, files: &Path) -> IdentityService {
    let address = HostPort { host: "127.0.0.1".into(), port: address.port() };
    let operator = crate::identity::Operator { address, trust_file: files.join("ca.crt") };
    IdentityService { operator, token_file: files.join("token") }
}

#[tokio::test]
async fn a_proxy_with_its_token_is_certified_and_one_with_another_hears_why_not() {
    let (authority, mut tasks) = (Arc::new(Authority::new()), JoinSet::new());
    let address = serve(&authority, "127.0.0.1", &mut tasks).await;
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, contents: &str| std::fs::write(files.path().join(name), contents).unwrap();
    let identity = Identity::with_clock(authority.domain.clone(), authority.clock());
    let (mut progress, mut certified) = (identity.progress(), identity.progress());
    let local = LocalSet::new();
    local.spawn_local(run(identity.clone(), service(address, files.path())));

    let mut failed = async |expected: &str| {
        let found = |failure: &Option<String>| failure.as_deref().is_some_and(|reason| reason.ends_with(expected));
        let told = progress.wait_for(|progress| found(&progress.failure));
        let told = timeout(TIMEOUT, told).await;
        assert!(told.is_ok(), "expected {expected:?}");
    };
    local
        .run_until(async {
            failed("token: No such file or directory (os error 2)").await;
            write("token", "stolen\n");
            failed("ca.crt: No such file or directory (os error 2)").await;
            write("ca.crt", &Authority::new().root_pem());
            failed("invalid peer certificate: BadSignature").await;
            write("ca.crt", &authority.root_pem());
            failed("refuses a certificate: Unauthenticated: the token is of another audience").await;
            write("token", "good\n");
            timeout(TIMEOUT, certified.wait_for(|progress| progress.certificates == 1)).await.unwrap().unwrap();
        })
        .await;
    assert_eq!(identity.credentials().unwrap().id().as_str(), "spiffe://cluster.local/ns/shop/sa/web");
}

#[tokio::test]
async fn an_operator_by_another_name_gets_no_token_and_one_that_the_bundle_trusts_needs_no_file() {
    let (authority, mut tasks) = (Arc::new(Authority::new()), JoinSet::new());
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("token"), "good").unwrap();
    let bundle = authority.bundle();
    let ask = async |address| {
        let request = CertificateSigningRequestDer::from(request());
        service(address, files.path()).certify(request.to_vec(), Some(&bundle), &authority.clock()).await
    };
    let other = serve(&authority, "other.example", &mut tasks).await;
    let error = ask(other).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    let right = serve(&authority, "127.0.0.1", &mut tasks).await;
    assert_eq!(ask(right).await.unwrap().certificate_chain.len(), 2);
}

fn request() -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
}
