//! Tokens listed in a file, for tests, benchmarks and local development. Must not be used where a cluster issues tokens;
//! `app` sees to that.

use super::{CheckToken, CredentialError, ProvenWorkload};
use futures::{FutureExt, future::BoxFuture};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Checks tokens against `tokens.yaml`: a list of `{token, namespace, serviceAccount, pod}`. The file is read at each
/// check, once for each certificate, so that a change is in force at once and no stale copy is.
#[derive(Clone, Debug)]
pub struct TokensFile {
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    token: String,
    namespace: String,
    service_account: String,
    pod: String,
}

/// Why the text is no list of tokens.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum TokensError {
    #[error("must be a list of {{token, namespace, serviceAccount, pod}}: {0}")]
    Syntax(String),
    #[error("[{index}].{field}: must not be empty")]
    Empty { index: usize, field: &'static str },
}

impl TokensFile {
    /// Checks tokens against the file at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl CheckToken for TokensFile {
    fn check<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ProvenWorkload, CredentialError>> {
        async move {
            let path = self.path.display();
            let text = tokio::fs::read_to_string(&self.path)
                .await
                .map_err(|error| CredentialError::Unavailable(format!("{path}: {error}")))?;
            let entries = parse(&text).map_err(|error| CredentialError::Unavailable(format!("{path}: {error}")))?;
            find(entries, token).ok_or_else(|| CredentialError::Refused(format!("{path} does not list it")))
        }
        .boxed()
    }
}

fn parse(text: &str) -> Result<Vec<Entry>, TokensError> {
    let entries: Vec<Entry> =
        serde_saphyr::from_str(text).map_err(|error| TokensError::Syntax(without_snippet(&error.to_string())))?;
    for (index, entry) in entries.iter().enumerate() {
        let fields = [
            ("token", &entry.token),
            ("namespace", &entry.namespace),
            ("serviceAccount", &entry.service_account),
            ("pod", &entry.pod),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, value)| value.is_empty()) {
            return Err(TokensError::Empty { index, field });
        }
    }
    Ok(entries)
}

/// The parser shows the lines around a fault, which hold tokens; its first line says what is wrong and where.
fn without_snippet(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

fn find(entries: Vec<Entry>, token: &str) -> Option<ProvenWorkload> {
    // Digests are compared, so that the time taken tells nothing about a listed token.
    let wanted = Sha256::digest(token);
    let entry = entries.into_iter().find(|entry| Sha256::digest(&entry.token) == wanted)?;
    Some(ProvenWorkload {
        namespace: entry.namespace,
        service_account: entry.service_account,
        pod: entry.pod,
        pod_uid: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, TokensFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.yaml");
        std::fs::write(&path, text).unwrap();
        (folder, TokensFile::new(path))
    }

    const LISTED: &str = "- {token: secret, namespace: shop, serviceAccount: web, pod: web-1}\n";

    #[tokio::test]
    async fn a_listed_token_proves_its_workload_and_another_is_refused() {
        let (_folder, tokens) = file(LISTED);
        let workload = tokens.check("secret").await.unwrap();
        assert_eq!((workload.namespace(), workload.service_account(), workload.pod()), ("shop", "web", "web-1"));
        assert!(matches!(tokens.check("secre").await, Err(CredentialError::Refused(_))));
    }

    #[tokio::test]
    async fn a_change_of_the_file_is_in_force_at_once() {
        let (folder, tokens) = file("[]");
        assert!(matches!(tokens.check("secret").await, Err(CredentialError::Refused(_))));
        std::fs::write(folder.path().join("tokens.yaml"), LISTED).unwrap();
        assert!(tokens.check("secret").await.is_ok());
    }

    #[tokio::test]
    async fn a_missing_file_is_named_and_refuses_nobody_for_good() {
        let tokens = TokensFile::new("nowhere/tokens.yaml".into());
        let error = tokens.check("secret").await.unwrap_err();
        assert!(matches!(&error, CredentialError::Unavailable(why) if why.starts_with("nowhere/tokens.yaml: ")));
    }

    #[tokio::test]
    async fn a_broken_file_says_what_was_expected_and_shows_no_token() {
        for (text, said) in [
            (
                "- {token: hush, namespace: shop, serviceAccount: '', pod: web-1}",
                "[0].serviceAccount: must not be empty",
            ),
            ("- {token: hush, namespace: shop}", "must be a list of {token, namespace, serviceAccount, pod}"),
        ] {
            let (_folder, tokens) = file(text);
            let error = tokens.check("hush").await.unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("hush"), "{error}");
        }
    }
}
