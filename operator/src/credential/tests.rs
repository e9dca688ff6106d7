//! Clients shake hands in memory, with whatever certificate they come.

use super::{
    fake::{FakeCredential, FakeMesh},
    *,
};
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, SanType};
use rustls::{ClientConfig, HandshakeKind};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsConnector, client, server};

type Taken = (server::TlsStream<DuplexStream>, Authenticated);

/// What becomes of a client: both ends where it was taken.
async fn connect(
    clients: &MeshClients,
    client: &Arc<ClientConfig>,
) -> Result<(Taken, client::TlsStream<DuplexStream>), HandshakeRefusal> {
    let (near, far) = duplex(64 * 1024);
    let connecting = TlsConnector::from(Arc::clone(client)).connect("localhost".try_into().unwrap(), near);
    let (taken, connected) = tokio::join!(clients.accept(far), connecting);
    // With TLS 1.3, a client that is refused for its certificate hears of it when it reads.
    taken.map(|taken| (taken, connected.unwrap()))
}

async fn refusal(clients: &MeshClients, mesh: &FakeMesh, credential: Option<&FakeCredential>) -> String {
    let refusal = connect(clients, &Arc::new(mesh.client(credential))).await.err();
    refusal.map(|refusal| format!("{refusal:?}: {refusal}")).unwrap_or_default()
}

fn params(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = OffsetDateTime::now_utc() - Duration::HOUR;
    params.not_after = OffsetDateTime::now_utc() + Duration::HOUR;
    params
}

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

#[tokio::test]
async fn a_certificate_of_the_mesh_proves_its_service_account_its_pod_and_until_when() {
    let mesh = FakeMesh::new();
    let credential = mesh.web("web-1", Some("uid-1"));
    let client = Arc::new(mesh.client(Some(&credential)));
    let ((mut tls, client), mut peer) = connect(&mesh.clients(), &client).await.unwrap();
    let workload = client.workload();
    assert_eq!((workload.namespace(), workload.service_account()), ("shop", "web"));
    assert_eq!((workload.pod(), workload.pod_uid()), ("web-1", Some("uid-1")));
    let left = client.not_after() - OffsetDateTime::now_utc();
    assert!(left > Duration::minutes(59) && left <= Duration::HOUR, "{left}");
    peer.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    tls.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

#[tokio::test]
async fn whoever_does_not_prove_a_workload_of_this_mesh_is_refused_in_words() {
    let (mesh, other) = (FakeMesh::new(), FakeMesh::new());
    let clients = mesh.clients();
    let but = |change: fn(&mut CertificateParams)| {
        let mut params = params(&[WEB]);
        change(&mut params);
        mesh.signed(&params)
    };
    let expired = but(|params| params.not_after = OffsetDateTime::now_utc() - Duration::MINUTE);
    let early = but(|params| params.not_before = OffsetDateTime::now_utc() + Duration::MINUTE);
    let for_servers = but(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let foreign = "spiffe://other.example/ns/shop/sa/web";
    let table = [
        (None, "NoCertificate: the client came without a certificate"),
        (Some(other.web("web-1", None)), "Untrusted("),
        (Some(expired), "NotValidNow(Expired"),
        (Some(early), "NotValidNow(NotValidYet"),
        (Some(for_servers), "Untrusted("),
        (
            Some(mesh.signed(&params(&[foreign]))),
            "NoWorkload(\"must be of the trust domain cluster.local, names spiffe://other",
        ),
        (
            Some(mesh.signed(&params(&[WEB]))),
            "NoWorkload(\"of spiffe://cluster.local/ns/shop/sa/web cannot be used: the certificate names no pod",
        ),
        (Some(mesh.signed(&params(&[WEB, WEB]))), "NoWorkload(\"names no workload: it has more than one URI"),
        (Some(mesh.signed(&params(&[]))), "NoWorkload(\"names no workload: it has no URI"),
        (
            Some(mesh.signed(&params(&["https://cluster.local/ns/shop/sa/web"]))),
            "NoWorkload(\"names no workload: its URI must be spiffe://",
        ),
    ];
    for (credential, said) in table {
        let refusal = refusal(&clients, &mesh, credential.as_ref()).await;
        assert!(refusal.starts_with(said), "{refusal}, not {said}");
    }
}

#[tokio::test]
async fn nobody_is_taken_before_there_are_roots_and_bad_roots_change_nothing() {
    let mesh = FakeMesh::new();
    let clients = MeshClients::new(mesh.domain.clone(), mesh.serving(), b"h2");
    let credential = mesh.web("web-1", None);
    assert!(refusal(&clients, &mesh, Some(&credential)).await.starts_with("NoRoots"));
    clients.trust(mesh.issuer.trust_bundle().roots()).unwrap();
    assert!(matches!(clients.trust(&[]), Err(RootsError::Verifier(_))));
    assert!(matches!(clients.trust(&["no certificate".into()]), Err(RootsError::Root(_))));
    assert_eq!(refusal(&clients, &mesh, Some(&credential)).await, "");
}

#[tokio::test]
async fn other_roots_hold_for_the_next_connection_and_leave_open_ones_alone() {
    let (old, new) = (FakeMesh::new(), FakeMesh::new());
    let clients = old.clients();
    let credential = old.web("web-1", None);
    let ((mut open, _), mut peer) = connect(&clients, &Arc::new(old.client(Some(&credential)))).await.unwrap();
    clients.trust(new.issuer.trust_bundle().roots()).unwrap();
    assert!(refusal(&clients, &old, Some(&credential)).await.starts_with("Untrusted("));
    peer.write_all(b"still here").await.unwrap();
    open.read_exact(&mut [0; 10]).await.unwrap();
    let both: Vec<_> = [&new, &old].iter().flat_map(|mesh| mesh.issuer.trust_bundle().roots().to_vec()).collect();
    clients.trust(&both).unwrap();
    assert_eq!(refusal(&clients, &old, Some(&credential)).await, "");
    assert_eq!(refusal(&clients, &old, Some(&new.web("web-1", None))).await, "");
}

#[tokio::test]
async fn every_connection_shows_its_certificate_again() {
    let mesh = FakeMesh::new();
    let clients = mesh.clients();
    let client = Arc::new(mesh.client(Some(&mesh.web("web-1", None))));
    for _ in 0..2 {
        let ((mut tls, _), mut peer) = connect(&clients, &client).await.unwrap();
        assert_eq!(tls.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        // A ticket would come with the first bytes.
        tls.write_all(b"x").await.unwrap();
        tls.flush().await.unwrap();
        peer.read_exact(&mut [0]).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_can_agrees_on_a_key_that_outlives_quantum_computers() {
    let mesh = FakeMesh::new();
    let clients = mesh.clients();
    let ((tls, _), _peer) = connect(&clients, &Arc::new(mesh.client(Some(&mesh.web("web-1", None))))).await.unwrap();
    let agreed = tls.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(agreed, rustls::NamedGroup::X25519MLKEM768);
}
