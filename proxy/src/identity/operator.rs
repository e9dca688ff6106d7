//! What a connection to the operator needs: the certificates that its own must be signed by, and the service-account
//! token that proves this proxy's workload to it.
//!
//! Both are files that the kubelet replaces while the proxy runs: the token about every hour, the bundle when a root is
//! rotated. They are read again for every connection, so that no watcher is needed and an old copy is never used. They
//! are small and lie in memory (tmpfs), and connections are rare, so they are read without leaving the thread.

use super::tls;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Neither a bundle nor a token is ever near this many bytes; a larger file is a mistake.
const FILE_LIMIT: u64 = 1024 * 1024;

/// Where the credentials for connections to the operator are found.
#[derive(Clone, Debug)]
pub struct OperatorCredentials {
    /// Certificates in PEM, one of which must have signed the operator's.
    pub trust_file: PathBuf,
    /// A service-account token of the audience [`conduit_model::settings::TOKEN_AUDIENCE`].
    pub token_file: PathBuf,
}

/// A file without which the operator cannot be connected to.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("{}: {error}", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file holds something else than it should.
    #[error("{}: expected {expected}", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What it should hold, and what is wrong.
        expected: String,
    },
}

impl OperatorCredentials {
    /// A TLS configuration that trusts what the trust file holds now: TLS 1.3 alone (RFC 8446), HTTP/2 by ALPN.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn tls(&self) -> Result<ClientConfig, CredentialError> {
        let pem = read(&self.trust_file)?;
        trusting(&pem).map_err(|expected| CredentialError::Malformed { path: self.trust_file.clone(), expected })
    }

    /// The token as it is now, without the white space around it.
    ///
    /// # Errors
    /// The file cannot be read, or holds no token.
    pub fn token(&self) -> Result<String, CredentialError> {
        let malformed = || CredentialError::Malformed {
            path: self.token_file.clone(),
            expected: "a token of visible ASCII characters".to_owned(),
        };
        let bytes = read(&self.token_file)?;
        let token = bytes.trim_ascii();
        let valid = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
        let token = std::str::from_utf8(token).ok().filter(|_| valid).ok_or_else(malformed)?;
        Ok(token.to_owned())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let contents = || {
        let mut contents = Vec::new();
        std::fs::File::open(path)?.take(FILE_LIMIT).read_to_end(&mut contents)?;
        Ok(contents)
    };
    contents().map_err(|error| CredentialError::Unreadable { path: path.to_owned(), error })
}

/// One bad certificate in a bundle refuses it whole: what was left out could be the one in use.
fn trusting(pem: &[u8]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| format!("certificates in PEM ({e})"))?;
        roots.add(certificate).map_err(|e| format!("certificates that can be trusted ({e})"))?;
    }
    if roots.is_empty() {
        return Err("at least one certificate in PEM, found none".to_owned());
    }
    let mut config = tls::client(&tls::system_clock())
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(trust: &str, token: &str) -> (tempfile::TempDir, OperatorCredentials) {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str, contents: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, contents).unwrap();
            path
        };
        let credentials = OperatorCredentials { trust_file: path("ca.crt", trust), token_file: path("token", token) };
        (dir, credentials)
    }

    #[test]
    fn a_token_is_read_anew_each_time_without_the_space_around_it() {
        let (_dir, credentials) = credentials("", "one\n");
        assert_eq!(credentials.token().unwrap(), "one");
        std::fs::write(&credentials.token_file, "two").unwrap();
        assert_eq!(credentials.token().unwrap(), "two");
    }

    #[test]
    fn a_token_that_could_not_stand_in_a_header_is_refused() {
        for wrong in ["", " \n", "a b", "a\nb", "ä"] {
            let (_dir, credentials) = credentials("", wrong);
            let error = credentials.token().unwrap_err().to_string();
            assert!(error.ends_with("token: expected a token of visible ASCII characters"), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn a_bundle_needs_certificates_and_every_one_of_them_must_be_sound() {
        let key = rcgen::KeyPair::generate().unwrap();
        let good = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (bundle, expected) in [
            (good.clone(), None),
            (String::new(), Some("at least one certificate in PEM, found none")),
            (format!("{good}{broken}"), Some("certificates that can be trusted")),
        ] {
            let (_dir, credentials) = credentials(&bundle, "");
            match (credentials.tls(), expected) {
                (Ok(_), None) => {}
                (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (result, expected) => panic!("{expected:?}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let (dir, mut credentials) = credentials("", "");
        credentials.trust_file = dir.path().join("absent");
        assert!(credentials.tls().unwrap_err().to_string().contains("absent: No such file"));
    }
}
