//! The whole way to a certificate, over a socket.

use super::*;
use crate::identity::{Identity, fake::Authority, fake_operator::serve, run};
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokio::task::{JoinSet, LocalSet};

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
    let ask =
        async |address| service(address, files.path()).certify(request(), Some(&bundle), &authority.clock()).await;
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
