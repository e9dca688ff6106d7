//! The operator's identity service for tests, over a socket. The cases in `tests/` use this file too, so that it knows
//! nothing but what is public.

// What one user of this file does not need, another does.
#![allow(dead_code)]

use super::fake::Authority;
use conduit_model::wire::identity::{
    CertifyRequest, CertifyResponse,
    identity_server::{Identity, IdentityServer},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use rcgen::CertificateSigningRequestParams;
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::CertificateSigningRequestDer;
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tonic::{Response, Status};

/// Certifies whoever has the token `good` as the service account `web`.
#[derive(Clone)]
struct Operator(Arc<Authority>);

#[tonic::async_trait]
impl Identity for Operator {
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

/// Serves on loopback with a certificate for `name`, until `tasks` ends.
pub(crate) async fn serve(authority: &Arc<Authority>, name: &str, tasks: &mut JoinSet<()>) -> SocketAddr {
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
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, operator) = (acceptor.clone(), operator.clone());
            connections.spawn(async move {
                // A client that does not trust this operator ends the handshake: nothing to serve.
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let service = TowerToHyperService::new(IdentityServer::new(operator));
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    address
}
