//! The admin server, asked over TCP.

use super::*;
use crate::{
    app::{logging::LogControl, process},
    discovery::{
        Metrics,
        fake::{Trust, client},
    },
};
use conduit_model::{
    Endpoint, EndpointProxy, EndpointUpdate, Forward, Outbound, OutboundTlsMode, Protocol, Workload, WorkloadKind,
};
use std::time::SystemTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

/// A server with a proxy's parts behind it.
struct Fixture {
    address: SocketAddr,
    application: TcpListener,
    directory: Arc<Directory>,
    draining: watch::Sender<bool>,
    shutdown: mpsc::Receiver<()>,
    trust: Trust,
    _tasks: JoinSet<()>,
    _running: crate::discovery::fake::Running,
    _layer: Box<dyn std::any::Any>,
}

async fn fixture() -> Fixture {
    let trust = Trust::new();
    let identity = trust.identity.clone();
    of(trust, identity).await
}

async fn of(trust: Trust, identity: Arc<Identity>) -> Fixture {
    let nobody = "127.0.0.1:1".parse().unwrap();
    let running = client(nobody, &trust, Duration::from_secs(3600));
    let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (log, layer) = LogControl::detached("info");
    let (draining, drains) = watch::channel(false);
    let (shutdown, asked) = mpsc::channel(1);
    let mut registry = Registry::default();
    process::register(&mut registry, SystemTime::now());
    Metrics::new(tokio::time::Instant::now()).register(&mut registry);
    crate::identity::metrics::register(&identity, &mut registry);
    let admin = Admin {
        registry,
        directory: running.directory.clone(),
        own: running.own.clone(),
        identity,
        discovery: running.inquiry.clone(),
        log,
        pod_ip: "127.0.0.1".parse().unwrap(),
        probe_ports: vec![application.local_addr().unwrap().port(), 1],
        draining: drains,
        shutdown,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, Arc::new(admin)));
    Fixture {
        address,
        application,
        directory: running.directory.clone(),
        draining,
        shutdown: asked,
        trust,
        _tasks: tasks,
        _running: running,
        _layer: Box::new(layer),
    }
}

impl Fixture {
    /// Status and body of the answer.
    async fn ask(&self, method: &str, target: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("{method} {target} HTTP/1.1\r\nhost: proxy\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

#[tokio::test]
async fn a_proxy_is_ready_until_it_drains_and_lives_all_the_while() {
    let proxy = fixture().await;
    assert_eq!(proxy.ask("GET", "/ready", "").await, (200, "ready\n".into()));
    proxy.draining.send_replace(true);
    assert_eq!(proxy.ask("GET", "/ready", "").await, (503, "draining\n".into()));
    assert_eq!(proxy.ask("GET", "/live", "").await, (200, "live\n".into()));
}

#[tokio::test]
async fn whoever_takes_all_connections_and_says_nothing_keeps_no_probe_out() {
    let proxy = fixture().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(proxy.address).await.unwrap());
    }
    assert_eq!(proxy.ask("GET", "/live", "").await, (200, "live\n".into()));
    assert_eq!(silent[0].read(&mut [0; 1]).await.unwrap(), 0, "the oldest made room");
    let kept = silent[CONNECTIONS - 1].try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(kept.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_probe_that_comes_amid_a_flood_is_answered() {
    let proxy = fixture().await;
    // None is accepted until this test waits.
    let connect = || std::net::TcpStream::connect(proxy.address).unwrap();
    let mut probe = connect();
    std::io::Write::write_all(&mut probe, b"GET /live HTTP/1.1\r\nhost: proxy\r\n\r\n").unwrap();
    let _flood: Vec<_> = (0..2 * CONNECTIONS).map(|_| connect()).collect();
    probe.set_nonblocking(true).unwrap();
    let mut answer = String::new();
    TcpStream::from_std(probe).unwrap().read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_proxy_without_a_certificate_is_not_ready_and_says_why() {
    let trust = Trust::new();
    let identity = Identity::with_clock(trust.authority.domain.clone(), trust.authority.clock());
    let proxy = of(trust, identity.clone()).await;
    let not_ready = |reason: &str| (503, format!("no certificate yet: {reason}\n"));
    assert_eq!(proxy.ask("GET", "/ready", "").await, not_ready("the operator has not answered yet"));
    identity.failed("connection refused");
    assert_eq!(proxy.ask("GET", "/ready", "").await, not_ready("connection refused"));
    let page: serde_json::Value = serde_json::from_str(&proxy.ask("GET", "/identity", "").await.1).unwrap();
    assert_eq!((&page["identity"], &page["trustRoots"]), (&serde_json::Value::Null, &serde_json::json!([])));
    assert_eq!(page["lastRenewalError"], "connection refused");

    let authority = &proxy.trust.authority;
    identity.set(authority.make(authority.request("web"), authority.bundle())).unwrap();
    assert_eq!(proxy.ask("GET", "/ready", "").await, (200, "ready\n".into()));
    authority.clock.advance(Duration::from_secs(48 * 3600));
    assert_eq!(proxy.ask("GET", "/ready", "").await.0, 200, "what is open goes on");
}

#[tokio::test]
async fn the_identity_shows_the_certificate_and_the_roots_and_no_key() {
    let proxy = fixture().await;
    let (status, text) = proxy.ask("GET", "/identity", "").await;
    let page: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &page["identity"]), (200, &serde_json::json!("spiffe://cluster.local/ns/shop/sa/web")));
    let pem = page["certificateChainPem"].as_str().unwrap();
    assert_eq!(pem.matches("-----BEGIN CERTIFICATE-----").count(), 2, "with the issuer's: {pem}");
    let credentials = proxy.trust.identity.credentials().unwrap();
    assert_eq!(page["notAfter"], crate::identity::rfc3339(credentials.not_after()));
    assert!(page["notBefore"].as_str().unwrap().ends_with('Z'));
    let root = &page["trustRoots"][0];
    assert_eq!((&root["subject"], root["fingerprint"].as_str().unwrap().len()), (&serde_json::json!("CN=root"), 64));
    assert_eq!((&page["renewals"], &page["lastRenewalError"]), (&serde_json::json!(1), &serde_json::Value::Null));
    assert!(!text.contains("PRIVATE"), "{text}");
}

#[tokio::test]
async fn a_probe_tells_whether_the_application_accepts_connections() {
    let proxy = fixture().await;
    let application = proxy.application.local_addr().unwrap();
    let target = format!("/probe/tcp?port={}", application.port());
    assert_eq!(proxy.ask("GET", &target, "").await, (200, format!("{application} accepts connections\n")));
    let refused = "127.0.0.1:1: Connection refused (os error 111)\n";
    assert_eq!(proxy.ask("GET", "/probe/tcp?port=1", "").await, (503, refused.into()));
    assert_eq!(proxy.ask("GET", "/probe/tcp?port=2", "").await.0, 403);
}

#[tokio::test]
async fn metrics_of_every_room_are_on_one_page() {
    let (status, page) = fixture().await.ask("GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(page.contains("\nproxy_build_info{") && page.contains("\nconduit_discovery_connected 0\n"), "{page}");
    assert!(
        page.contains("\nidentity_cert_expiration_timestamp_seconds 1")
            || page.contains("\nidentity_cert_expiration_timestamp_seconds 2"),
        "{page}"
    );
    assert!(
        page.contains("\nidentity_cert_refresh_timestamp_seconds ")
            && page.contains("\nidentity_cert_refreshes_total 1\n")
    );
    assert!(page.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_log_level_can_be_read_and_replaced_and_a_bad_one_is_refused() {
    let proxy = fixture().await;
    assert_eq!(proxy.ask("GET", "/proxy-log-level", "").await, (200, "info\n".into()));
    let directives = "warn,conduit_proxy=debug";
    let (status, now) = proxy.ask("PUT", "/proxy-log-level", directives).await;
    assert_eq!((status, now.contains("conduit_proxy=debug")), (200, true), "{now}");
    let (status, reason) = proxy.ask("PUT", "/proxy-log-level", "conduit_proxy=loud").await;
    assert_eq!((status, reason.starts_with("expected a level or filter directives")), (400, true), "{reason}");
    assert_eq!(proxy.ask("GET", "/proxy-log-level", "").await.1, now, "what was in force stays");
    assert_eq!(proxy.ask("PUT", "/proxy-log-level", &"x".repeat(5000)).await.0, 413);
}

#[tokio::test]
async fn the_configuration_in_force_is_shown() {
    let proxy = fixture().await;
    let service = proxy.directory.destination("10.96.0.1:80".parse().unwrap());
    let outbound =
        Outbound { protocol: Protocol::Http2, forward: Forward::Balance, ..Outbound::unknown(OutboundTlsMode::Prefer) };
    service.apply_config(Arc::new(outbound));
    let workload = Workload {
        namespace: "shop".into(),
        service_account: "web".into(),
        kind: WorkloadKind::Deployment,
        name: "web".into(),
        pod: "web-1".into(),
    };
    let endpoint = Endpoint { address: "10.0.0.1:8080".parse().unwrap(), workload, proxy: EndpointProxy::Mtls };
    service.apply_endpoints(EndpointUpdate::Whole(vec![endpoint]));
    let (status, page) = proxy.ask("GET", "/config", "").await;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!(status, 200);
    assert_eq!(page["discovery"]["connected"], false);
    assert_eq!(page["outbound"][0]["address"], "10.96.0.1:80");
    assert_eq!(page["outbound"][0]["config"]["protocol"], "HTTP2");
    assert_eq!(page["outbound"][0]["endpoints"][0]["workload"]["pod"], "web-1");
    assert_eq!(page["inbound"]["config"], serde_json::Value::Null);
}

#[tokio::test]
async fn shutdown_can_be_asked_for_once_and_again() {
    let mut proxy = fixture().await;
    assert_eq!(proxy.ask("POST", "/shutdown", "").await, (200, "shutting down\n".into()));
    assert_eq!(proxy.ask("POST", "/shutdown", "").await.0, 200);
    assert_eq!(proxy.shutdown.recv().await, Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_nothing_is_cut_off() {
    let proxy = fixture().await;
    let mut silent = TcpStream::connect(proxy.address).await.unwrap();
    let mut answer = Vec::new();
    let before = tokio::time::Instant::now();
    let _ = silent.read_to_end(&mut answer).await;
    assert!(before.elapsed() <= CONNECTION_TIMEOUT, "{:?}", before.elapsed());
}
