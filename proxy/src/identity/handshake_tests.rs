//! Handshakes between two proxies, and with those who only pretend to be one.

use super::{
    Alpn, Credentials, TlsError,
    fake::{Authority, Impostor, Request, bundle},
    refusal, sessions,
};
use conduit_model::SpiffeId;
use rcgen::{CustomExtension, ExtendedKeyUsagePurpose};
use rustls::{AlertDescription, HandshakeKind, NamedGroup, ProtocolVersion};
use std::{net::IpAddr, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

const HOUR: Duration = Duration::from_secs(3600);
const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

/// What either side made of a connection.
struct Outcome {
    client: Result<HandshakeKind, TlsError>,
    server: Result<(SpiffeId, Alpn), TlsError>,
}

/// The client takes the server for `expected`; a byte goes each way, so that tickets arrive.
async fn connect(client: &Credentials, server: &Credentials, expected: &SpiffeId, alpn: Alpn) -> Outcome {
    let (near, far) = duplex(64 * 1024);
    let client = async {
        let mut stream = client.connect(near, ADDRESS, expected, alpn).await?;
        let kind = stream.handshake_kind().unwrap();
        // A server that refuses the client says so after the client's part of the handshake is over.
        stream.write_all(b"a").await.map_err(TlsError::of)?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.map_err(TlsError::of)?;
        Ok(kind)
    };
    let server = async {
        let (mut stream, alpn, peer) = server.accept(far).await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.map_err(TlsError::of)?;
        stream.write_all(&byte).await.map_err(TlsError::of)?;
        stream.flush().await.map_err(TlsError::of)?;
        Ok((peer.id().clone(), alpn))
    };
    let (client, server) = tokio::join!(client, server);
    Outcome { client, server }
}

async fn between(client: &Credentials, server: &Credentials) -> Outcome {
    connect(client, server, server.id(), Alpn::Http2).await
}

#[tokio::test]
async fn two_workloads_of_the_mesh_know_each_other_and_what_the_connection_carries() {
    let mesh = Authority::new();
    let (web, api) = (mesh.credentials("web"), mesh.credentials("api"));
    for alpn in [Alpn::Http2, Alpn::Http1, Alpn::Tcp] {
        let outcome = connect(&web, &api, api.id(), alpn).await;
        assert!(outcome.client.is_ok());
        assert_eq!(outcome.server.unwrap(), (web.id().clone(), alpn));
    }
}

#[tokio::test]
async fn a_server_that_is_not_the_expected_workload_is_refused_and_both_are_named() {
    let mesh = Authority::new();
    let (web, api, other) = (mesh.credentials("web"), mesh.credentials("api"), mesh.credentials("other"));
    let outcome = connect(&web, &other, api.id(), Alpn::Http2).await;
    let error = outcome.client.unwrap_err();
    assert_eq!(error.reason(), "wrong_peer");
    let expected = "expected spiffe://cluster.local/ns/shop/sa/api, found spiffe://cluster.local/ns/shop/sa/other";
    assert_eq!(error.to_string(), expected);
    assert!(matches!(outcome.server, Err(TlsError::Handshake(_))), "{:?}", outcome.server);
}

/// What a proxy says of an impostor: as its client, which expects `bad`, and as its server.
async fn verdicts(proxy: &Credentials, impostor: &Impostor, bad: &SpiffeId) -> [Result<(), TlsError>; 2] {
    let (near, far) = duplex(64 * 1024);
    let (as_client, _) = tokio::join!(proxy.connect(near, ADDRESS, bad, Alpn::Http2), impostor.accept(far));
    let (near, far) = duplex(64 * 1024);
    let (_, as_server) = tokio::join!(impostor.connect(near), proxy.accept(far));
    [as_client.map(drop), as_server.map(drop)]
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused_by_either_side() {
    let (mesh, stranger) = (Authority::new(), Authority::new());
    let elsewhere = Authority::of("elsewhere.example", mesh.clock.clone());
    let proxy = mesh.credentials("good");
    let id = mesh.domain.identity("shop", "bad");
    let now = mesh.clock.now();
    let bad = |change: &dyn Fn(&mut Request)| {
        let mut request = mesh.request("bad");
        change(&mut request);
        Impostor::new(&mesh, request)
    };
    let mut unknown = CustomExtension::from_oid_content(&[2, 25, 1], vec![5, 0]);
    unknown.set_criticality(true);
    for (what, impostor, expected) in [
        ("another root", Impostor::new(&stranger, stranger.request("bad")), "InvalidSignatureForPublicKey"),
        ("the issuer left out", bad(&|_| {}).without_issuer(), "UnknownIssuer"),
        ("expired", bad(&|r| r.not_after = now - HOUR / 100), "CertExpired"),
        ("not valid yet", bad(&|r| r.not_before = now + HOUR), "CertNotValidYet"),
        ("for neither side", bad(&|r| r.usages = vec![ExtendedKeyUsagePurpose::CodeSigning]), "RequiredEku"),
        ("critical and unknown", bad(&|r| r.extensions = vec![unknown.clone()]), "UnsupportedCriticalExtension"),
        ("no URI", bad(&|r| r.uris.clear()), "expected exactly one URI"),
        ("two URIs", bad(&|r| r.uris.push("spiffe://cluster.local/ns/shop/sa/b".into())), "found 2"),
        ("another URI", bad(&|r| r.uris = vec!["https://shop.example/".into()]), "must be spiffe://"),
    ] {
        for verdict in verdicts(&proxy, &impostor, &id).await {
            let error = verdict.unwrap_err();
            assert_eq!(error.reason(), "peer_certificate", "{what}: {error}");
            assert!(error.to_string().contains(expected), "{what}: {error}");
        }
    }
    let proxy = mesh.make(mesh.request("good"), bundle(&[&mesh, &elsewhere]));
    let foreign = Impostor::new(&elsewhere, elsewhere.request("bad"));
    for verdict in verdicts(&proxy, &foreign, &id).await {
        let error = verdict.unwrap_err();
        assert_eq!(error.reason(), "wrong_peer");
        assert!(error.to_string().ends_with("found spiffe://elsewhere.example/ns/shop/sa/bad"), "{error}");
    }
    // The same impostor with nothing wrong is no impostor.
    for verdict in verdicts(&proxy, &bad(&|_| {}), &id).await {
        verdict.unwrap();
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_a_mesh_protocol_or_tls_13_gets_nothing() {
    let mesh = Authority::new();
    let (proxy, id) = (mesh.credentials("good"), mesh.domain.identity("shop", "bad"));
    let impostor = || Impostor::new(&mesh, mesh.request("bad"));
    let server = async |impostor: Impostor| {
        let [_, as_server] = verdicts(&proxy, &impostor, &id).await;
        as_server.unwrap_err().reason()
    };
    assert_eq!(server(impostor().without_certificate()).await, "peer_certificate");
    assert_eq!(server(impostor().offering(&[])).await, "no_mesh_alpn");
    assert_eq!(server(impostor().offering(&["h2", "http/1.1"])).await, "no_mesh_alpn");
    for alpn in [&[][..], &["h2"], &["conduit/tcp"]] {
        let [as_client, _] = verdicts(&proxy, &impostor().offering(alpn), &id).await;
        let error = as_client.unwrap_err();
        assert_eq!(error.reason(), "no_mesh_alpn", "{alpn:?}: {error:?}");
    }
}

/// A ClientHello of TLS 1.2 (RFC 5246 section 7.4.1.2) that offers the mesh's HTTP/2, for which it takes no certificate yet.
fn hello_of_tls_12() -> Vec<u8> {
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes(), &(body.len() as u16).to_be_bytes(), body].concat();
    let alpn = [&[0, 11, 10][..], b"conduit/h2"].concat();
    // secp256r1; ECDSA with SHA-256; ALPN.
    let extensions = [extension(10, &[0, 2, 0, 23]), extension(13, &[0, 2, 4, 3]), extension(16, &alpn)].concat();
    // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; no compression.
    let fixed = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x2b], &[1, 0]].concat();
    let body = [&fixed[..], &(extensions.len() as u16).to_be_bytes(), &extensions].concat();
    let message = [&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
    [&[22, 3, 1][..], &(message.len() as u16).to_be_bytes(), &message].concat()
}

#[tokio::test]
async fn a_client_of_tls_12_hears_that_its_version_is_not_spoken() {
    let mesh = Authority::new();
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(&hello_of_tls_12()).await.unwrap();
    let error = mesh.credentials("api").accept(far).await.unwrap_err();
    assert!(error.to_string().contains("peer is incompatible"), "{error}");
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    // A fatal alert, protocol_version (RFC 8446 section 6).
    assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]), "{answer:?}");
}

#[tokio::test]
async fn proxies_speak_tls_13_with_the_post_quantum_group_and_name_no_host() {
    let mesh = Authority::new();
    let (web, foreign) = (mesh.credentials("web"), || Impostor::new(&mesh, mesh.request("foreign")));
    let id = mesh.domain.identity("shop", "foreign");
    let (near, far) = duplex(64 * 1024);
    let server = foreign();
    let (client, server) = tokio::join!(web.connect(near, ADDRESS, &id, Alpn::Http2), server.accept(far));
    client.unwrap();
    let server = server.unwrap();
    assert_eq!(server.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(server.get_ref().1.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    assert_eq!(server.get_ref().1.server_name(), None);

    let (near, far) = duplex(64 * 1024);
    let client = foreign();
    let (client, server) = tokio::join!(client.connect(near), web.accept(far));
    server.unwrap();
    let client = client.unwrap();
    assert_eq!(client.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(client.get_ref().1.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn sessions_are_resumed_with_the_same_peer_under_the_same_credentials_only() {
    let mesh = Authority::new();
    let (web, api) = (mesh.credentials("web"), mesh.credentials("api"));
    let first = between(&web, &api).await;
    assert_eq!(first.client.unwrap(), HandshakeKind::Full);
    let second = between(&web, &api).await;
    assert_eq!(second.client.unwrap(), HandshakeKind::Resumed);
    assert_eq!(second.server.unwrap().0, *web.id(), "the server knows who resumes");

    let renewed = mesh.credentials("api");
    let outcome = between(&web, &renewed).await;
    assert_eq!(outcome.client.unwrap(), HandshakeKind::Full, "the server's certificate is another");
    let told = api.with_bundle(bundle(&[&mesh, &mesh.successor()])).unwrap();
    assert_eq!(between(&web, &told).await.client.unwrap(), HandshakeKind::Full, "the server's bundle is another");
    between(&web, &api).await.client.unwrap();
    let told = web.with_bundle(bundle(&[&mesh, &mesh.successor()])).unwrap();
    assert_eq!(between(&told, &api).await.client.unwrap(), HandshakeKind::Full, "the client's bundle is another");
}

#[tokio::test]
async fn a_ticket_of_one_workload_is_never_offered_where_another_is_expected() {
    let mesh = Authority::new();
    let (web, api) = (mesh.credentials("web"), mesh.credentials("api"));
    between(&web, &api).await.client.unwrap();
    // The same server, at the same address, would know its own ticket.
    let outcome = connect(&web, &api, &mesh.domain.identity("shop", "other"), Alpn::Http2).await;
    assert_eq!(outcome.client.unwrap_err().reason(), "wrong_peer");
    assert_eq!(between(&web, &api).await.client.unwrap(), HandshakeKind::Resumed, "and it was not used up");
}

#[tokio::test]
async fn a_root_that_is_dropped_ends_the_sessions_that_it_vouched_for() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = bundle(&[&new, &old]);
    let web = old.make(old.request("web"), both.clone());
    let api = new.make(new.request("api"), both);
    between(&web, &api).await.server.unwrap();
    let api = api.with_bundle(new.bundle()).unwrap();
    let outcome = between(&web, &api).await;
    assert_eq!(outcome.server.unwrap_err().reason(), "peer_certificate");
    outcome.client.unwrap_err();
}

#[tokio::test]
async fn a_resumed_session_ends_with_the_certificates_that_it_was_opened_with() {
    let mesh = Authority::new();
    let short = |name| {
        let mut request = mesh.request(name);
        request.not_after = mesh.clock.now() + HOUR;
        mesh.make(request, mesh.bundle())
    };
    let (brief, lasting) = (short("brief"), mesh.credentials("lasting"));
    between(&brief, &lasting).await.client.unwrap();
    between(&lasting, &brief).await.client.unwrap();
    assert_eq!(between(&lasting, &brief).await.client.unwrap(), HandshakeKind::Resumed);
    mesh.clock.advance(HOUR);
    assert_eq!(between(&lasting, &brief).await.client.unwrap(), HandshakeKind::Resumed, "its last second counts");
    mesh.clock.advance(Duration::from_secs(1));

    // Who is honest stops by itself.
    assert_eq!(between(&brief, &lasting).await.client.unwrap_err().reason(), "own_certificate_expired");
    assert_eq!(between(&lasting, &brief).await.server.unwrap_err().reason(), "own_certificate_expired");
    assert!(brief.is_expired(mesh.clock.now()) && !lasting.is_expired(mesh.clock.now()));
}

#[tokio::test]
async fn a_peer_that_resumes_after_its_certificate_has_expired_is_refused_and_told_why() {
    let mesh = Authority::new();
    let mut request = mesh.request("brief");
    request.not_after = mesh.clock.now() + HOUR;
    let (stopped, lasting) = (crate::identity::fake::FakeClock::new(), mesh.credentials("lasting"));
    let brief = mesh.make_by(request, mesh.bundle(), stopped);
    between(&brief, &lasting).await.client.unwrap();
    between(&lasting, &brief).await.client.unwrap();
    mesh.clock.advance(2 * HOUR);
    // Its own clock stands still, and it takes its certificate for valid.
    let outcome = between(&brief, &lasting).await;
    let TlsError::Handshake(told) = outcome.client.unwrap_err() else { panic!("it is told by an alert") };
    assert_eq!(refusal(&told), Some(AlertDescription::CertificateExpired));
    assert_eq!(
        outcome.server.unwrap_err().to_string(),
        "the peer's certificate: expected a certificate that is valid now; it has expired"
    );
    let outcome = between(&lasting, &brief).await;
    assert_eq!(outcome.client.unwrap_err().reason(), "peer_certificate");
}

#[tokio::test]
async fn what_is_kept_for_resumption_is_bounded() {
    let mesh = Authority::new();
    let web = mesh.credentials("web");
    let first = mesh.credentials("api-0");
    between(&web, &first).await.client.unwrap();
    for number in 1..=sessions::IDENTITIES {
        let other = mesh.domain.identity("shop", &format!("api-{number}"));
        let outcome = connect(&web, &first, &other, Alpn::Tcp).await;
        assert_eq!(outcome.client.unwrap_err().reason(), "wrong_peer");
    }
    assert_eq!(between(&web, &first).await.client.unwrap(), HandshakeKind::Full, "it was called longest ago");

    let at = async |octet: u8| {
        let address = IpAddr::from([10, 0, 1, octet]);
        let (near, far) = duplex(64 * 1024);
        let client = async {
            let mut stream = web.connect(near, address, first.id(), Alpn::Tcp).await.unwrap();
            stream.read_u8().await.unwrap();
            stream.handshake_kind().unwrap()
        };
        let server = async { first.accept(far).await.unwrap().0.write_u8(1).await.unwrap() };
        tokio::join!(client, server).0
    };
    for octet in 0..=sessions::TICKETS as u8 {
        assert_eq!(at(octet).await, HandshakeKind::Full);
    }
    assert_eq!(at(sessions::TICKETS as u8).await, HandshakeKind::Resumed);
    assert_eq!(at(0).await, HandshakeKind::Full, "its ticket was the oldest");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_given_up() {
    let mesh = Authority::new();
    let web = mesh.credentials("web");
    let (near, _far) = duplex(1024);
    assert_eq!(web.connect(near, ADDRESS, web.id(), Alpn::Tcp).await.unwrap_err().reason(), "timeout");
    let (near, _far) = duplex(1024);
    assert_eq!(web.accept(near).await.unwrap_err().reason(), "timeout");
}

#[test]
fn no_key_is_ever_shown() {
    let mesh = Authority::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let chain = mesh.sign(mesh.request("web"), &key);
    let private = super::fake::private(&key);
    let credentials = Credentials::new(mesh.domain.clone(), chain, private, mesh.bundle(), mesh.clock()).unwrap();
    let identity = super::Identity::with_clock(mesh.domain.clone(), mesh.clock());
    identity.set(credentials).unwrap();
    let shown = format!("{:?} {:#?}", identity.credentials(), identity);
    assert!(shown.contains("spiffe://cluster.local/ns/shop/sa/web"));
    let secret = key.serialized_der();
    for window in secret.windows(8).step_by(8) {
        assert!(!shown.contains(&format!("{window:?}")[1..]), "{shown}");
    }
    assert!(!shown.to_lowercase().contains("key"), "{shown}");
}

#[test]
fn credentials_need_a_key_that_is_theirs_and_an_identity_of_their_trust_domain() {
    let (mesh, elsewhere) = (Authority::new(), Authority::of("elsewhere.example", super::fake::FakeClock::new()));
    let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let of = |authority: &Authority, key: &rcgen::KeyPair, own: &rcgen::KeyPair| {
        let chain = authority.sign(authority.request("web"), key);
        Credentials::new(mesh.domain.clone(), chain, super::fake::private(own), mesh.bundle(), mesh.clock())
    };
    of(&mesh, &key, &key).unwrap();
    assert!(of(&mesh, &key, &other).unwrap_err().to_string().starts_with("certificate and key:"));
    let expected =
        "expected an identity of the trust domain cluster.local, found spiffe://elsewhere.example/ns/shop/sa/web";
    assert_eq!(of(&elsewhere, &key, &key).unwrap_err().to_string(), expected);
}
