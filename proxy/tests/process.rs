//! The program as it is run: how it starts, what it says when it cannot, and how it ends.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "../src/identity/fake.rs"]
mod fake;
#[path = "../src/identity/fake_operator.rs"]
mod fake_operator;
#[allow(dead_code, reason = "the traffic tests use the rest")]
#[path = "traffic/namespace.rs"]
mod namespace;

use conduit_proxy::identity::{Clock, Credentials, Identity, TrustBundle};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Longer than a proxy takes to start or end; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conduit-proxy"));
    command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A proxy with ports of its own, and an operator that cannot be reached.
fn meshed(ports: [u16; 3]) -> Command {
    let mut command = command();
    let [outbound, inbound, admin] = ports.map(|port| port.to_string());
    command
        .env("CONDUIT_PROXY_OUTBOUND_PORT", outbound)
        .env("CONDUIT_PROXY_INBOUND_PORT", inbound)
        .env("CONDUIT_PROXY_ADMIN_PORT", admin)
        .env("CONDUIT_PROXY_POD_IPS", "127.0.0.1")
        .env("CONDUIT_PROXY_DISCOVERY_ADDRESS", "127.0.0.1:1")
        .env("CONDUIT_PROXY_IDENTITY_ADDRESS", "127.0.0.1:1")
        .env("CONDUIT_PROXY_TRUST_FILE", "absent/ca.crt")
        .env("CONDUIT_PROXY_TOKEN_FILE", "absent/token");
    command
}

/// Three ports that were free a moment ago.
fn free_ports() -> [u16; 3] {
    let listeners = [0; 3].map(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts a proxy, which answers `path` with 200 when this returns.
    fn start(mut command: Command, admin: u16, path: &str) -> Self {
        let running = Self(command.spawn().unwrap());
        let started = Instant::now();
        while ask(admin, "GET", path).is_none() {
            assert!(started.elapsed() < PATIENCE, "no 200 from {path}");
            std::thread::yield_now();
        }
        running
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// The exit code, and what was logged.
    fn ended(mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "the proxy does not end");
            std::thread::yield_now();
        };
        let mut log = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status.code(), log)
    }
}

/// The body of a 200 from the admin server, if it answers.
fn ask(port: u16, method: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).ok()?;
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: proxy\r\ncontent-length: 0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

/// Exit code and the lines of standard error.
fn failure(output: &Output) -> (Option<i32>, Vec<&str>) {
    (output.status.code(), std::str::from_utf8(&output.stderr).unwrap().lines().collect())
}

#[test]
fn settings_that_cannot_be_read_are_all_named_on_one_line() {
    let output = command().env("CONDUIT_PROXY_WORKERS", "many").output().unwrap();
    let (code, lines) = failure(&output);
    assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
    for variable in ["POD_IPS", "DISCOVERY_ADDRESS", "IDENTITY_ADDRESS", "TRUST_FILE", "TOKEN_FILE", "WORKERS"] {
        assert!(lines[0].contains(&format!("CONDUIT_PROXY_{variable} ")), "{variable} in {lines:?}");
    }
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_its_address_and_purpose() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let [_, inbound, admin] = free_ports();
    let port = taken.local_addr().unwrap().port();
    let output = meshed([port, inbound, admin]).output().unwrap();
    let expected = format!(
        "conduit-proxy: cannot listen at 127.0.0.1:{port} for outbound connections: Address already in use (os error 98)"
    );
    assert_eq!(failure(&output), (Some(1), vec![expected.as_str()]));
}

#[test]
fn an_argument_that_it_does_not_know_is_refused_and_the_version_is_told() {
    let output = command().arg("--port=1").output().unwrap();
    let expected = r#"conduit-proxy: unexpected argument "--port=1": settings are environment variables, see --help"#;
    assert_eq!(failure(&output), (Some(1), vec![expected]));
    let output = command().arg("--version").output().unwrap();
    let version = concat!("conduit-proxy ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(std::str::from_utf8(&output.stdout).unwrap(), version);
    let output = command().arg("--help").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("CONDUIT_PROXY_POD_IPS (required)"));
}

#[test]
fn without_an_operator_it_serves_and_is_not_ready_and_each_way_to_end_it_ends_it_in_order() {
    for end in ["TERM", "INT", "/shutdown"] {
        let ports = free_ports();
        let running = Running::start(meshed(ports), ports[2], "/live");
        assert_eq!(ask(ports[2], "GET", "/ready"), None, "it has no certificate");
        let metrics = ask(ports[2], "GET", "/metrics").unwrap();
        assert!(metrics.contains("\nconduit_discovery_connected 0\n"), "{metrics}");
        match end {
            "/shutdown" => assert_eq!(ask(ports[2], "POST", end), Some("shutting down\n".to_owned())),
            signal => running.signal(signal),
        }
        let (code, log) = running.ended();
        assert_eq!((code, log.contains("drained")), (Some(0), true), "by {end}: {log}");
    }
}

#[tokio::test]
async fn with_an_operator_that_certifies_it_is_ready_and_shows_its_identity() {
    let (authority, mut tasks) = (Arc::new(fake::Authority::new()), JoinSet::new());
    let operator = fake_operator::serve(&authority, "127.0.0.1", &mut tasks).await;
    // The operator goes on beside what waits.
    tokio::task::spawn_blocking(move || certified(operator, &authority.root_pem())).await.unwrap();
}

fn certified(operator: SocketAddr, root: &str) {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("ca.crt"), root).unwrap();
    std::fs::write(files.path().join("token"), "good\n").unwrap();
    let ports = free_ports();
    let mut command = meshed(ports);
    command
        .env("CONDUIT_PROXY_IDENTITY_ADDRESS", operator.to_string())
        .env("CONDUIT_PROXY_TRUST_FILE", files.path().join("ca.crt"))
        .env("CONDUIT_PROXY_TOKEN_FILE", files.path().join("token"));
    let running = Running::start(command, ports[2], "/ready");
    let identity = ask(ports[2], "GET", "/identity").unwrap();
    assert!(identity.contains("\"spiffe://cluster.local/ns/shop/sa/web\""), "{identity}");
    let metrics = ask(ports[2], "GET", "/metrics").unwrap();
    assert!(metrics.contains("\nidentity_cert_refreshes_total 1\n"), "{metrics}");
    running.signal("TERM");
    let (code, log) = running.ended();
    assert_eq!((code, log.contains("identity: certified")), (Some(0), true), "{log}");
}

/// A client's connection to the pod's port 9000, which the rules of a namespace lead to the proxy's inbound listener.
fn redirected(inbound: u16) -> TcpStream {
    namespace::nft(&format!(
        "add table ip pod
         add chain ip pod out {{ type nat hook output priority -100; }}
         add rule ip pod out tcp dport 9000 redirect to :{inbound}"
    ));
    TcpStream::connect((Ipv4Addr::LOCALHOST, 9000)).unwrap()
}

#[test]
fn what_is_open_at_the_end_of_the_grace_period_is_reset_and_the_proxy_ends_in_order() {
    for (grace_period, is_told_again) in [("100ms", false), ("1h", true)] {
        namespace::inside(|| {
            let ports = free_ports();
            let mut command = meshed(ports);
            command.env("CONDUIT_PROXY_SHUTDOWN_GRACE_PERIOD", grace_period);
            let mut running = Running::start(command, ports[2], "/live");
            let mut client = redirected(ports[1]);
            client.write_all(b"GET / HTTP/1.1\r\nhost: ").unwrap();
            let open = "tcp_open_connections{direction=\"inbound\"";
            while !ask(ports[2], "GET", "/metrics").unwrap().contains(open) {
                std::thread::yield_now();
            }
            running.signal("TERM");
            while is_told_again && running.0.try_wait().unwrap().is_none() {
                running.signal("TERM");
            }
            let (code, log) = running.ended();
            assert_eq!((code, log.contains("connections that were open are cut")), (Some(0), true), "{log}");
            let end = client.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        });
    }
}

#[test]
fn a_proxy_with_few_descriptors_serves_fewer_connections_and_says_so() {
    let ports = free_ports();
    let mut command = Command::new("prlimit");
    command.args(["--nofile=512:1024", "--", env!("CARGO_BIN_EXE_conduit-proxy")]);
    let of_proxy = meshed(ports);
    command.env_clear().envs(of_proxy.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", "/usr/bin:/bin").stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = Running::start(command, ports[2], "/live");
    running.signal("TERM");
    let (code, log) = running.ended();
    assert_eq!(code, Some(0));
    let line = log.lines().find(|line| line.contains("fewer connections are served at once"));
    assert!(line.is_some_and(|line| line.contains("descriptors=1024 outbound=192 inbound=192")), "{log}");
}
