//! The attacks against servers of this program's own, in process: what each reports, and that it can tell the difference.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use clap::Parser;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::papers::{CHAIN, KEY, Papers};
use super::*;

const NAME: &str = "spiffe://cluster.local/ns/shop/sa/cart";

/// A server that shows `papers`, with what it notes.
async fn server(papers: Papers) -> (SocketAddr, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = serve::config(&papers, &["conduit/h2".into(), "conduit/http1".into()]).unwrap();
    let acceptor = config.map(|config| TlsAcceptor::from(Arc::new(config)));
    let noted = Arc::new(Mutex::new(Vec::new()));
    let notes = noted.clone();
    let note = move |line| notes.lock().unwrap().push(line);
    tokio::spawn(serve::answer(listener, acceptor, CancellationToken::new(), note));
    (address, noted)
}

fn named() -> Papers {
    Papers { identity: Some(NAME.into()), ..Papers::default() }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    peer: peer::Settings,
}

/// What `attack tls` reports of `address` with these further arguments.
async fn attack(address: SocketAddr, arguments: &[&str]) -> Value {
    let to = address.to_string();
    let settings = Line::parse_from([&["tls", "--to", &to], arguments].concat()).peer;
    line(peer::attempt(&settings, Arc::new(peer::config(&settings).unwrap())).await)
}

#[test]
fn the_line_says_whether_it_worked_and_what_was_refused() {
    assert_eq!(line(Ok(json!({"a": 1}))), json!({"ok": true, "a": 1}));
    let failed = json!({"ok": false, "error": "no answer", "alpn": "conduit/h2"});
    assert_eq!(line(Ok(failed.clone())), failed);
    let refused = tonic::Status::unauthenticated("no token");
    assert_eq!(line(Err(refused.into())), json!({"ok": false, "code": "Unauthenticated", "error": "no token"}));
}

#[tokio::test]
async fn both_sides_say_what_the_other_showed_and_what_they_agreed_on() {
    let (address, noted) = server(named()).await;
    for alpn in ["conduit/http1", "conduit/h2"] {
        let line = attack(address, &["--identity", "spiffe://a/ns/b/sa/c", "--alpn", alpn]).await;
        assert_eq!((&line["ok"], &line["alpn"]), (&json!(true), &json!(alpn)), "{line}");
        assert_eq!((&line["protocol"], &line["resumed"]), (&json!("TLSv1_3"), &json!(false)));
        assert_eq!(line["chain"][0]["uris"], json!([NAME]));
        assert_eq!((&line["answer"]["status"], &line["answer"]["body"]), (&json!(200), &json!("thank you\n")));
    }
    let noted = noted.lock().unwrap();
    assert!(noted.iter().all(|line| line["client"]["uris"] == json!(["spiffe://a/ns/b/sa/c"])), "{noted:?}");
}

#[tokio::test]
async fn no_certificate_is_shown_unless_one_is_named() {
    let (address, noted) = server(named()).await;
    assert_eq!(attack(address, &[]).await["ok"], true);
    assert_eq!(noted.lock().unwrap()[0]["client"], Value::Null);
}

#[tokio::test]
async fn a_server_that_wants_another_protocol_is_an_error() {
    let (address, _) = server(named()).await;
    let line = attack(address, &["--alpn", "conduit/h9"]).await;
    assert_eq!(line["ok"], false);
    assert!(line["error"].as_str().unwrap().starts_with("no handshake: "), "{line}");
}

#[tokio::test]
async fn an_old_protocol_is_answered_with_an_alert_by_a_server_that_has_a_new_one_only() {
    let (address, _) = server(named()).await;
    let error = hello12::attempt(&address.to_string(), &["conduit/http1".into()]).await.unwrap_err();
    // protocol_version (RFC 8446, section 6.2): so the hello was read and understood.
    assert_eq!(error.to_string(), "alert 70");
}

#[tokio::test]
async fn a_server_without_a_certificate_notes_what_it_was_sent() {
    let (address, noted) = server(Papers::default()).await;
    let refused = attack(address, &[]).await;
    assert_eq!(refused["ok"], false, "{refused}");
    let mut plain = tokio::net::TcpStream::connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET /secret HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut plain, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let noted = noted.lock().unwrap();
    assert_eq!((&noted[0]["hello"], &noted[0]["plaintext"]), (&json!(true), &json!("")));
    assert_eq!((&noted[1]["hello"], &noted[1]["plaintext"]), (&json!(false), &json!("GET /secret HTTP/1.1\r\n\r\n")));
}

#[test]
fn what_was_given_once_is_shown_again() {
    let folder = std::env::temp_dir().join(format!("conduit-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = named().credentials().unwrap().unwrap();
    let der: Vec<u8> = made.chain.iter().flat_map(|certificate| certificate.to_vec()).collect();
    std::fs::write(folder.join(CHAIN), der).unwrap();
    std::fs::write(folder.join(KEY), made.key.secret_der()).unwrap();
    let read = Papers { certificate: Some(folder.clone()), ..Papers::default() }.credentials().unwrap().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!((read.chain, read.key), (made.chain, made.key));
}

#[test]
fn a_request_names_what_was_wished_for() {
    use x509_parser::prelude::{FromDer, X509CertificationRequest};
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        wishes: certify::Wishes,
    }
    let request = |arguments: &[&str]| {
        let wishes = Line::parse_from([&["certify"], arguments].concat()).wishes;
        wishes.write(&rcgen::KeyPair::generate().unwrap()).unwrap()
    };
    let plain = request(&[]);
    let (_, plain) = X509CertificationRequest::from_der(&plain).unwrap();
    assert_eq!(plain.certification_request_info.subject.iter().count(), 0);
    assert!(plain.requested_extensions().is_none_or(|mut all| all.next().is_none()));
    let greedy = request(&["--uri", NAME, "--common-name", "root", "--authority"]);
    let (_, greedy) = X509CertificationRequest::from_der(&greedy).unwrap();
    assert_eq!(greedy.certification_request_info.subject.to_string(), "CN=root");
    assert_eq!(greedy.requested_extensions().unwrap().count(), 2);
}
