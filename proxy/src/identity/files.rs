//! The files that a proxy is given: the roots that the operator's certificate must lead to, and the service-account token
//! that proves this proxy's workload to it.
//!
//! The kubelet replaces both while the proxy runs: the token about every hour, the roots when one is rotated. They are
//! read again for every use, so that no watcher is needed and an old copy is never used. They are small and lie in memory
//! (tmpfs), and uses are rare, so they are read without leaving the thread.

use super::bundle::TrustBundle;
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Neither a bundle nor a token is ever near this many bytes; a larger file is a mistake.
const FILE_LIMIT: u64 = 1024 * 1024;

/// A file that does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
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

/// The roots in a file of PEM.
pub(super) fn roots(path: &Path) -> Result<TrustBundle, FileError> {
    TrustBundle::from_pem(&read(path)?).map_err(|e| malformed(path, format!("certificates in PEM{e}")))
}

/// The token in a file, without the white space around it. It can stand in a header.
pub(super) fn token(path: &Path) -> Result<String, FileError> {
    let bytes = read(path)?;
    let token = bytes.trim_ascii();
    let valid = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    let token = std::str::from_utf8(token).ok().filter(|_| valid);
    Ok(token.ok_or_else(|| malformed(path, "a token of visible ASCII characters".to_owned()))?.to_owned())
}

fn malformed(path: &Path, expected: String) -> FileError {
    FileError::Malformed { path: path.to_owned(), expected }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let contents = || {
        let mut contents = Vec::new();
        std::fs::File::open(path)?.take(FILE_LIMIT).read_to_end(&mut contents)?;
        Ok(contents)
    };
    contents().map_err(|error| FileError::Unreadable { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fake::Authority;

    fn file(contents: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), contents).unwrap();
        file
    }

    #[test]
    fn a_token_is_read_anew_each_time_without_the_space_around_it() {
        let file = file("one\n");
        assert_eq!(token(file.path()).unwrap(), "one");
        std::fs::write(file.path(), "two").unwrap();
        assert_eq!(token(file.path()).unwrap(), "two");
    }

    #[test]
    fn a_token_that_could_not_stand_in_a_header_is_refused() {
        for wrong in ["", " \n", "a b", "a\nb", "ä"] {
            let error = token(file(wrong).path()).unwrap_err().to_string();
            assert!(error.ends_with(": expected a token of visible ASCII characters"), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn a_bundle_needs_certificates_and_every_one_of_them_must_be_sound() {
        let good = Authority::new().root_pem();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(roots(file(&good).path()).unwrap().roots().len(), 1);
        for (bundle, expected) in [
            (String::new(), "expected certificates in PEM: must hold 1 to 64 certificates, holds 0"),
            (
                format!("{good}{broken}"),
                "expected certificates in PEM[1]: must be an X.509 certificate: TrailingData(SignedData)",
            ),
            (good.repeat(65), "must hold 1 to 64 certificates, holds 65"),
        ] {
            let error = roots(file(&bundle).path()).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let error = token(Path::new("absent/token")).unwrap_err().to_string();
        assert!(error.starts_with("absent/token: No such file"), "{error}");
    }
}
