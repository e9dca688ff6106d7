//! Known answers: what TLS stacks that share nothing with ours make of the proxy, as its client and as its server.

use crate::{
    identity::fake::Authority,
    support::*,
    tools::{Server, build, expect, go, openssl},
};
use conduit_model::Protocol;
use rcgen::KeyPair;
use std::{fs, net::SocketAddr};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

const GET: &str = "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";

/// A folder with what a peer trusts, and what it proves to be.
fn papers(authority: &Authority, service_account: &str) -> TempDir {
    let folder = trust(authority);
    let key = KeyPair::generate().unwrap();
    let pem = authority
        .sign(authority.request(service_account), &key)
        .into_iter()
        .map(|certificate| pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec())));
    let pem: Vec<_> = pem.collect();
    for (name, contents) in
        [("leaf", &pem[0]), ("issuer", &pem[1]), ("chain", &pem.concat()), ("key", &key.serialize_pem())]
    {
        fs::write(folder.path().join(format!("{name}.pem")), contents).unwrap();
    }
    folder
}

/// A folder with the roots alone.
fn trust(authority: &Authority) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("roots.pem"), authority.root_pem()).unwrap();
    folder
}

fn file(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

async fn application() -> SocketAddr {
    http1_server(|_| async { http::Response::new(full("from the application")) }).await
}

/// What `openssl s_client` says of a GET to `proxy`, with these options.
async fn s_client(proxy: &InboundProxy, options: &[&str]) -> String {
    let address = proxy.address.to_string();
    let always =
        ["s_client", "-connect", &address, "-noservername", "-ign_eof", "-showcerts", "-alpn", "conduit/http1"];
    let arguments: Vec<_> = always.iter().chain(options).map(|argument| (*argument).to_owned()).collect();
    spawn_blocking(move || openssl(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), GET)).await.unwrap()
}

/// The options by which OpenSSL proves who it is and verifies its peer.
fn options(folder: &TempDir) -> Vec<String> {
    let options = ["-cert", "leaf.pem", "-cert_chain", "issuer.pem", "-key", "key.pem", "-CAfile", "roots.pem"];
    let named = |option: &str| if option.starts_with('-') { option.to_owned() } else { file(folder, option) };
    options.into_iter().map(named).chain(["-verify_return_error".to_owned()]).collect()
}

async fn go_connects(folder: &TempDir, proxy: &InboundProxy, alpn: &'static str) -> String {
    let (folder, address) = (file(folder, "."), proxy.address.to_string());
    spawn_blocking(move || go(&["connect", &folder, &address, alpn])).await.unwrap()
}

/// What the application of a proxy that calls `peer` gets.
async fn called(authority: &Authority, peer: SocketAddr) -> (OutboundProxy, String) {
    let endpoints = [endpoint(peer, true)];
    let proxy = OutboundProxy::meshed(Protocol::Http1, &endpoints, authority.identity("client"));
    let answer = exchange(proxy.address, GET).await;
    (proxy, answer)
}

fn assert_not_served(proxy: &InboundProxy) {
    assert_eq!(sum(&proxy.metrics, "tcp_open_total", &["peer=\"dst\""]), 0.0, "the application was not reached");
}

#[test]
fn openssl_with_a_certificate_of_the_mesh_is_served_by_tls_1_3_and_verifies_the_proxy() {
    run(async {
        let proxy = InboundProxy::before(application().await, Protocol::Detect);
        let papers = papers(&proxy.authority, "client");
        let options = options(&papers);
        let said = s_client(&proxy, &options.iter().map(String::as_str).collect::<Vec<_>>()).await;
        expect(
            &said,
            &[
                "New, TLSv1.3, Cipher is TLS_",
                "Verify return code: 0 (ok)",
                "ALPN protocol: conduit/http1\n",
                "HTTP/1.1 200 OK",
                "from the application",
            ],
        );
        // OpenSSL 3.5 and newer have the hybrid group.
        let groups = ["Negotiated TLS1.3 group: X25519MLKEM768", "Server Temp Key: X25519,", "Peer Temp Key: X25519,"];
        assert!(groups.iter().any(|group| said.contains(group)), "{said}");
        let chain = [" 0 s:", " 1 s:", " 2 s:"].map(|place| said.contains(place));
        assert_eq!(chain, [true, true, false], "certificate and issuer, without the root: {said}");
        assert_eq!(said.matches("Post-Handshake New Session Ticket arrived").count(), 1, "{said}");
        let identified = ["tls=\"true\"", &format!("client_id=\"{CLIENT}\"")];
        wait_for(&proxy.metrics, "response_total", &identified, 1.0).await;
    });
}

#[test]
fn openssl_resumes_its_session_and_is_the_same_peer() {
    run(async {
        let proxy = InboundProxy::before(application().await, Protocol::Detect);
        let papers = papers(&proxy.authority, "client");
        let (options, session) = (options(&papers), file(&papers, "session.pem"));
        for (session_option, handshake) in [("-sess_out", "New, TLSv1.3,"), ("-sess_in", "Reused, TLSv1.3,")] {
            let options: Vec<_> = options.iter().map(String::as_str).chain([session_option, &session]).collect();
            expect(&s_client(&proxy, &options).await, &[handshake, "HTTP/1.1 200 OK"]);
        }
        let identified = ["tls=\"true\"", &format!("client_id=\"{CLIENT}\"")];
        wait_for(&proxy.metrics, "response_total", &identified, 2.0).await;
        assert_eq!(sum(&proxy.metrics, "conduit_tls_handshakes_total", &["result=\"resumed\""]), 1.0);
    });
}

#[test]
fn openssl_without_a_certificate_or_with_tls_1_2_or_a_weak_group_hears_an_alert_and_is_not_served() {
    run(async {
        let proxy = InboundProxy::before(application().await, Protocol::Detect);
        let papers = papers(&proxy.authority, "client");
        let certified = options(&papers);
        let certified: Vec<_> = certified.iter().map(String::as_str).collect();
        for (options, alert) in [
            (vec!["-tls1_3"], "alert certificate required"),
            ([&certified[..], &["-tls1_2"]].concat(), "alert protocol version"),
            ([&certified[..], &["-groups", "P-521"]].concat(), "alert handshake failure"),
        ] {
            let said = s_client(&proxy, &options).await;
            expect(&said, &[alert]);
            assert!(!said.contains("HTTP/1.1"), "{said}");
        }
        assert_not_served(&proxy);
    });
}

#[test]
fn go_with_a_certificate_of_the_mesh_is_served_by_the_hybrid_group() {
    build();
    run(async {
        let proxy = InboundProxy::before(application().await, Protocol::Detect);
        let papers = papers(&proxy.authority, "client");
        for alpn in ["conduit/http1", "conduit/tcp"] {
            let said = go_connects(&papers, &proxy, alpn).await;
            expect(
                &said,
                &[
                    "version TLS 1.3\n",
                    "group X25519MLKEM768\n",
                    &format!("protocol {alpn}\n"),
                    &format!("peer [{WEB}]\n"),
                    "answer 200 from the application\n",
                ],
            );
        }
    });
}

#[test]
fn go_without_a_certificate_of_this_mesh_hears_an_alert_and_is_not_served() {
    build();
    run(async {
        let proxy = InboundProxy::before(application().await, Protocol::Detect);
        let foreign = papers(&proxy.authority.successor(), "client");
        // It trusts the proxy, which does not trust it.
        fs::copy(file(&trust(&proxy.authority), "roots.pem"), file(&foreign, "roots.pem")).unwrap();
        for (folder, alert) in [(trust(&proxy.authority), "certificate required"), (foreign, "unknown certificate")] {
            let said = go_connects(&folder, &proxy, "conduit/http1").await;
            expect(&said, &[&format!("error remote error: tls: {alert}")]);
        }
        assert_not_served(&proxy);
    });
}

#[test]
fn a_go_server_is_called_by_tls_1_3_without_a_name_and_with_a_certificate_that_it_verifies() {
    build();
    run(async {
        let authority = Authority::new();
        let server = Server::go(&file(&papers(&authority, "web"), "."));
        let (proxy, answer) = called(&authority, server.address).await;
        expect(&answer, &["HTTP/1.1 200 OK\r\n", "from Go"]);
        server.says(&[
            "offered versions [304]\n",
            "offered groups [X25519MLKEM768 X25519 CurveP256]\n",
            "offered protocols [conduit/http1]\n",
            "server name \"\"\n",
            "version TLS 1.3\n",
            "group X25519MLKEM768\n",
            &format!("peer [{CLIENT}]\n"),
        ]);
        let identified = ["tls=\"true\"", &format!("server_id=\"{WEB}\"")];
        wait_for(&proxy.metrics, "response_total", &identified, 1.0).await;
    });
}

#[test]
fn an_openssl_server_is_called_without_a_name_and_with_a_certificate_that_it_verifies() {
    run(async {
        let authority = Authority::new();
        let papers = papers(&authority, "web");
        let options = options(&papers);
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let own = ["-Verify", "2", "-alpn", "conduit/http1", "-www", "-tlsextdebug"];
        let server = Server::openssl(&[&options[..], &own].concat());
        let (_proxy, answer) = called(&authority, server.address).await;
        // The page that it answers says what it sees.
        expect(
            &answer,
            &[
                "HTTP/1.1 200 ok",
                "New, TLSv1.3, Cipher is TLS_",
                "Verify return code: 0 (ok)",
                &format!("URI:{CLIENT}"),
            ],
        );
        let said = server.says(&[
            "TLS client extension \"supported versions\"",
            "TLS client extension \"application layer protocol negotiation\"",
        ]);
        assert!(!said.contains("\"server name\""), "{said}");
    });
}

#[test]
fn a_server_that_speaks_no_more_than_tls_1_2_or_is_somebody_else_gets_no_request() {
    run(async {
        let authority = Authority::new();
        let (web, other) = (papers(&authority, "web"), papers(&authority, "other"));
        for (papers, version) in [(&web, "-tls1_2"), (&other, "-tls1_3")] {
            let options = options(papers);
            let options: Vec<_> = options.iter().map(String::as_str).collect();
            let server =
                Server::openssl(&[&options[..], &["-Verify", "2", "-alpn", "conduit/http1", "-www", version]].concat());
            let (_proxy, answer) = called(&authority, server.address).await;
            expect(&answer, &["HTTP/1.1 503 Service Unavailable\r\n", "conduit-error: tls-failed"]);
        }
    });
}
