//! An application that speaks TLS of its own, and its client: what passes through untouched, or their handshake fails.

use crate::support::*;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Both sides, by a certificate that nobody in the mesh knows.
pub struct Own {
    name: ServerName<'static>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Own {
    pub fn new(name: &'static str) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        server.alpn_protocols = vec![b"echo/1".to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"echo/1".to_vec(), b"http/1.1".to_vec()];
        Self { name: name.try_into().unwrap(), server: Arc::new(server), client: Arc::new(client) }
    }

    /// An application that sends back what it gets.
    pub async fn echo(&self) -> SocketAddr {
        let acceptor = TlsAcceptor::from(self.server.clone());
        server(move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let (mut from, mut to) = tokio::io::split(acceptor.accept(stream).await.unwrap());
                tokio::io::copy(&mut from, &mut to).await.unwrap();
                to.shutdown().await.unwrap();
            }
        })
        .await
    }

    /// Has `size` bytes sent back by way of `address`, by the application whose certificate this is.
    pub async fn exchange(&self, address: SocketAddr, size: usize) {
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = TlsConnector::from(self.client.clone()).connect(self.name.clone(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"echo/1"[..]));
        let sent: Vec<u8> = (0..=250).cycle().take(size).collect();
        let (mut from, mut to) = tokio::io::split(stream);
        let send = async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut all = Vec::new();
        let (read, ()) = tokio::join!(from.read_to_end(&mut all), send);
        assert_eq!(read.unwrap(), size);
        assert!(all == sent);
    }
}
