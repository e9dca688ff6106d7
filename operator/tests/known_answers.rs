//! Known answers: what TLS stacks that share nothing with ours make of the operator and of the certificates that it issues.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "../../e2e/foreign-tls/tools.rs"]
mod tools;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tools::{expect, go, openssl};

/// Longer than an operator takes to start.
const PATIENCE: Duration = Duration::from_secs(60);
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web-1}
spec: {serviceAccountName: web, containers: []}
status: {podIP: 10.1.0.1}
";
const TOKENS: &str = "- {token: good, namespace: shop, serviceAccount: web, pod: web-1}\n";

/// The program as it is run without a cluster; it ends with the test.
struct Operator {
    process: Child,
    folder: TempDir,
    identity: SocketAddr,
    discovery: SocketAddr,
}

impl Operator {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("manifests")).unwrap();
        fs::write(folder.path().join("manifests/pod.yaml"), POD).unwrap();
        fs::write(folder.path().join("tokens.yaml"), TOKENS).unwrap();
        // Ports that were free a moment ago.
        let free = [0; 3].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [identity, discovery, admin] = free.map(|listener| listener.local_addr().unwrap());
        let process = Command::new(env!("CARGO_BIN_EXE_conduit-operator"))
            .env_clear()
            .arg("--manifests")
            .arg(folder.path().join("manifests"))
            .arg("--identity-dir")
            .arg(folder.path())
            .arg("--listen-ip=127.0.0.1")
            .arg(format!("--identity-port={}", identity.port()))
            .arg(format!("--discovery-port={}", discovery.port()))
            .arg(format!("--admin-port={}", admin.port()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let operator = Self { process, folder, identity, discovery };
        let started = Instant::now();
        while TcpStream::connect(identity).is_err() || TcpStream::connect(discovery).is_err() {
            assert!(started.elapsed() < PATIENCE, "it does not listen");
            std::thread::yield_now();
        }
        operator
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Makes a key and a request for `name` by OpenSSL, and asks for a certificate by Go.
    fn certify(&self, name: &str, token: &str) -> String {
        let (key, request) = (self.file("key.pem"), self.file("request.der"));
        let name = format!("subjectAltName=URI:{name}");
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let what = ["-subj", "/", "-addext", &name, "-keyout", &key, "-outform", "DER", "-out", &request];
        openssl(&[&["req", "-new"][..], &curve, &what].concat(), "");
        go(&["certify", &self.file("ca.crt"), &self.identity.to_string(), token, &request])
    }

    /// What `openssl s_client` says of the handshake with discovery, with these options.
    fn discovery(&self, options: &[&str]) -> String {
        let address = self.discovery.to_string();
        let always =
            ["s_client", "-connect", &address, "-servername", "localhost", "-alpn", "h2", "-verify_return_error"];
        let roots = self.file("ca.crt");
        // A connection that is refused for its certificate is so after the handshake: what the server says last is waited for.
        openssl(
            &[&always[..], &["-CAfile", &roots, "-ign_eof"], options].concat(),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n......",
        )
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The certificates of a file, one a file: the first is the workload's.
fn split(operator: &Operator, chain: &str) -> Vec<String> {
    let (end, mut names) = ("-----END CERTIFICATE-----\n", Vec::new());
    for (number, certificate) in chain.split_inclusive(end).filter(|part| part.ends_with(end)).enumerate() {
        let name = operator.file(&format!("{number}.pem"));
        fs::write(Path::new(&name), certificate).unwrap();
        names.push(name);
    }
    names
}

#[test]
fn a_certificate_that_go_got_for_a_key_of_openssl_holds_before_both() {
    let operator = Operator::start();
    let chain = operator.certify(WEB, "good");
    expect(&chain, &["version TLS 1.3\n", "group X25519MLKEM768\n"]);
    let [leaf, issuer] = &split(&operator, &chain)[..] else { panic!("{chain}") };
    let roots = operator.file("ca.crt");

    for purpose in ["sslclient", "sslserver"] {
        let strict = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &roots, "-untrusted", issuer, leaf];
        assert_eq!(openssl(&strict, ""), format!("{leaf}: OK\n"));
    }
    fs::write(operator.file("chain.pem"), &chain).unwrap();
    let said = go(&["verify", &roots, &operator.file("chain.pem")]);
    expect(
        &said,
        &[
            &format!("uris [{WEB}]\n"),
            "other names 0\n",
            "extended key usages 2 0\n",
            "digital signature only true\n",
            "unhandled critical extensions 0\n",
            "serial number bits 127\n",
            // A day, and the five minutes by which it begins before it was made.
            "seconds of life 86700\n",
        ],
    );
    let text = |file: &str| openssl(&["x509", "-in", file, "-noout", "-text"], "");
    let shown = text(leaf);
    expect(
        &shown,
        &[
            "Subject Alternative Name: critical\n",
            &format!("                URI:{WEB}\n"),
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "                TLS Web Server Authentication, TLS Web Client Authentication\n",
            "Signature Algorithm: ecdsa-with-SHA256\n",
            "X509v3 Authority Key Identifier:",
        ],
    );
    assert!(!shown.contains("CA:TRUE"), "{shown}");
    for (file, length) in [(issuer, 0), (&roots, 1)] {
        let path = format!("X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:{length}\n");
        expect(&text(file), &[&path, "X509v3 Key Usage: critical\n", "Certificate Sign"]);
    }
}

#[test]
fn go_hears_why_it_gets_no_certificate() {
    let operator = Operator::start();
    let other = operator.certify("spiffe://cluster.local/ns/shop/sa/db", "good");
    expect(&other, &["error status 3: the request asks for ", WEB]);
    let stolen = operator.certify(WEB, "stolen");
    expect(&stolen, &["error status 16: the token was refused: "]);
}

#[test]
fn discovery_speaks_tls_1_3_with_who_has_a_certificate_and_with_nobody_else() {
    let operator = Operator::start();
    let chain = operator.certify(WEB, "good");
    let [leaf, issuer] = &split(&operator, &chain)[..] else { panic!("{chain}") };
    let key = operator.file("key.pem");
    let certified = ["-cert", leaf, "-cert_chain", issuer, "-key", &key];
    let said = operator.discovery(&certified);
    expect(&said, &["New, TLSv1.3, Cipher is TLS_", "Verify return code: 0 (ok)", "ALPN protocol: h2\n"]);
    assert!(!said.contains("alert"), "{said}");
    expect(&operator.discovery(&["-tls1_3"]), &["alert certificate required"]);
    expect(&operator.discovery(&[&certified[..], &["-tls1_2"]].concat()), &["alert protocol version"]);
}
