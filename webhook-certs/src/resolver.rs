//! The certificate that rustls serves, swapped whole while connections are accepted. Must not know where it comes from.

use crate::{CertificateError, Leaf};
use arc_swap::ArcSwapOption;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use std::sync::Arc;

/// The certificate that is served from now on. A handshake before the first [`ServingCertificate::serve`] fails.
#[derive(Debug, Default)]
pub struct ServingCertificate(ArcSwapOption<CertifiedKey>);

impl ServingCertificate {
    /// Serves `leaf` on every connection accepted after this.
    ///
    /// # Errors
    ///
    /// rustls cannot use the key, or it does not belong to the certificate; what was served before still is.
    pub fn serve(&self, leaf: &Leaf) -> Result<(), CertificateError> {
        let key = CertifiedKey::from_der(leaf.chain().to_vec(), leaf.key_der()?, &aws_lc_rs::default_provider())?;
        self.0.store(Some(Arc::new(key)));
        Ok(())
    }

    /// Whether there is a certificate to serve.
    pub fn is_loaded(&self) -> bool {
        self.0.load().is_some()
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// TLS 1.3 with `certificate`, offering `alpn` in that order.
///
/// # Errors
///
/// The cryptographic library lacks TLS 1.3, which a build decides.
pub fn server_config(certificate: Arc<ServingCertificate>, alpn: &[&[u8]]) -> Result<ServerConfig, CertificateError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Step, Stored, apply};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    use std::collections::BTreeSet;
    use time::OffsetDateTime;

    fn stored(names: &[&str]) -> Stored {
        let names: BTreeSet<_> = names.iter().map(ToString::to_string).collect();
        apply(Step::Everything, None, &names, OffsetDateTime::now_utc()).unwrap()
    }

    /// Shakes hands in memory with a client that trusts `bundle`; gives the certificate that the client saw.
    fn handshake(server: &Arc<ServerConfig>, bundle: &str, name: &'static str) -> Result<Vec<u8>, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(certificate.unwrap())?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), name.try_into().unwrap())?;
        let mut server = ServerConnection::new(Arc::clone(server))?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(client.peer_certificates().unwrap()[0].to_vec())
    }

    #[test]
    fn a_rotated_certificate_is_served_on_the_next_connection() {
        let serving = Arc::new(ServingCertificate::default());
        let config = Arc::new(server_config(Arc::clone(&serving), &[]).unwrap());
        let first = stored(&["operator"]);
        assert!(!serving.is_loaded());
        assert!(handshake(&config, &first.bundle(), "operator").is_err(), "nothing is served before it is loaded");
        serving.serve(first.leaf.as_ref().unwrap()).unwrap();
        let seen = handshake(&config, &first.bundle(), "operator").unwrap();
        let second = apply(Step::Leaf, Some(first), &BTreeSet::from(["operator".into()]), OffsetDateTime::now_utc());
        let second = second.unwrap();
        serving.serve(second.leaf.as_ref().unwrap()).unwrap();
        assert_ne!(handshake(&config, &second.bundle(), "operator").unwrap(), seen);
    }

    #[test]
    fn only_the_names_that_were_asked_for_are_valid() {
        let serving = Arc::new(ServingCertificate::default());
        let config = Arc::new(server_config(Arc::clone(&serving), &[]).unwrap());
        let stored = stored(&["operator", "operator.conduit.svc"]);
        serving.serve(stored.leaf.as_ref().unwrap()).unwrap();
        assert!(handshake(&config, &stored.bundle(), "operator.conduit.svc").is_ok());
        assert!(handshake(&config, &stored.bundle(), "elsewhere").is_err());
    }
}
