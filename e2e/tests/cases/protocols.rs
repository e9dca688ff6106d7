//! Every protocol, from a pod of the mesh to a pod of the mesh, over mutual TLS, and with a proxy on one side alone; and
//! that it is counted on both sides. What each check proves is said in `conduit-demo check --help`.

use anyhow::{Context, Result, ensure};
use conduit_e2e::{Case, Mesh, eventually, manifest};
use std::time::Duration;

/// How a connection shows in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    /// Request by request.
    Http,
    /// Bytes alone.
    Tcp,
}

/// A check, the Service's port, the port of the pod behind it, and how it shows.
type Row = (&'static str, &'static str, &'static str, As);

/// With what is declared for a port, and again with nothing declared.
const HTTP1: &[Row] = &[("http1", "http://echo", "8080", As::Http), ("http1", "http://echo:83", "8083", As::Http)];
const WEBSOCKET: &[Row] =
    &[("websocket", "http://echo", "8080", As::Http), ("websocket", "http://echo:83", "8083", As::Http)];
const HTTP2: &[Row] = &[("h2", "http://echo:81", "8081", As::Http), ("h2", "http://echo:83", "8083", As::Http)];
const GRPC: &[Row] = &[("grpc", "http://echo:82", "8082", As::Http), ("grpc", "http://echo:83", "8083", As::Http)];
const TLS: &[Row] = &[("https", "https://echo", "8443", As::Tcp), ("https", "https://echo:444", "8444", As::Tcp)];
const HALF_CLOSE: &[Row] =
    &[("half-close", "echo:9000", "9000", As::Tcp), ("half-close", "echo:9001", "9001", As::Tcp)];
/// The check fails where the server is not heard within five seconds; a proxy that detects by waiting takes ten.
const SERVER_FIRST: &[Row] =
    &[("server-first", "echo:9002", "9002", As::Tcp), ("server-first", "echo:9002", "9002", As::Tcp)];

#[test]
fn http1() {
    between_meshed_pods("http1", HTTP1);
}

#[test]
fn websocket() {
    between_meshed_pods("websocket", WEBSOCKET);
}

#[test]
fn http2() {
    between_meshed_pods("http2", HTTP2);
}

#[test]
fn grpc() {
    between_meshed_pods("grpc", GRPC);
}

#[test]
fn the_application_s_own_tls() {
    between_meshed_pods("tls", TLS);
}

#[test]
fn tcp_half_close() {
    between_meshed_pods("half-close", HALF_CLOSE);
}

#[test]
fn server_first() {
    between_meshed_pods("server-first", SERVER_FIRST);
}

fn between_meshed_pods(name: &str, rows: &'static [Row]) {
    Case::run(name, Mesh::Enabled, async move |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        case.apply(&manifest::client("client")).await?;
        case.available("echo").await?;
        case.available("client").await?;
        for &(check, target, port, how) in rows {
            let before = Counts::read(&case, port).await?;
            case.check("client", check, target).await?;
            counted(&case, &before, port, how).await.with_context(|| format!("{check} to {target} is counted"))?;
        }
        Ok(())
    });
}

/// What both proxies have counted as mutually authenticated.
struct Counts {
    outbound_requests: f64,
    outbound_connections: f64,
    inbound_requests: f64,
    inbound_connections: f64,
}

impl Counts {
    async fn read(case: &Case, port: &str) -> Result<Self> {
        let client = case.scrape_of("client").await?;
        let echo = case.scrape_of("echo").await?;
        let identity = format!("spiffe://cluster.local/ns/{}/sa/default", case.namespace);
        let outbound =
            [("direction", "outbound"), ("dst_service", "echo"), ("tls", "true"), ("server_id", identity.as_str())];
        let inbound =
            [("direction", "inbound"), ("target_port", port), ("tls", "true"), ("client_id", identity.as_str())];
        Ok(Self {
            outbound_requests: client.sum("request_total", &outbound),
            outbound_connections: client.sum("tcp_open_total", &outbound),
            inbound_requests: echo.sum("request_total", &inbound),
            inbound_connections: echo.sum("tcp_open_total", &inbound),
        })
    }
}

async fn counted(case: &Case, before: &Counts, port: &str, how: As) -> Result<()> {
    eventually("both sides count it", Duration::from_secs(5), || async {
        let now = Counts::read(case, port).await?;
        let requests =
            (now.outbound_requests - before.outbound_requests, now.inbound_requests - before.inbound_requests);
        let connections = (
            now.outbound_connections - before.outbound_connections,
            now.inbound_connections - before.inbound_connections,
        );
        ensure!(connections.0 >= 1.0 && connections.1 >= 1.0, "connections: {connections:?}");
        match how {
            As::Http => ensure!(requests.0 >= 1.0 && requests.0 == requests.1, "requests: {requests:?}"),
            As::Tcp => ensure!(requests == (0.0, 0.0), "bytes were read as requests: {requests:?}"),
        }
        Ok(())
    })
    .await
}

#[test]
fn every_protocol_with_a_proxy_on_one_side_alone() {
    Case::run("one-side", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        case.apply(&manifest::client("client")).await?;
        // Kept out by their own label.
        case.apply(&manifest::plain(&manifest::echo("plain-echo", 1))).await?;
        case.apply(&manifest::plain(&manifest::client("plain-client"))).await?;
        for app in ["echo", "client", "plain-echo", "plain-client"] {
            case.available(app).await?;
        }
        for app in ["plain-echo", "plain-client"] {
            ensure!(!conduit_e2e::workload::is_meshed(&case.pod(app).await?), "{app} has a proxy");
        }
        case.reaches("plain-client", "http1", "http://echo").await?;
        case.reaches("client", "http1", "http://plain-echo").await?;
        for (check, target, ..) in [HTTP1, WEBSOCKET, HTTP2, GRPC, TLS, HALF_CLOSE, SERVER_FIRST].concat() {
            case.check("plain-client", check, target).await?;
            case.check("client", check, &target.replace("echo", "plain-echo")).await?;
        }
        Ok(())
    });
}

#[test]
fn opaque_redis() {
    Case::run("redis", Mesh::Enabled, async |case| {
        let image = manifest::REDIS_IMAGE;
        case.apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: redis, labels: {{app: redis}}}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: app
    image: {image}
    args: ['--save', '', '--appendonly', 'no', '--protected-mode', 'no']
    readinessProbe: {{tcpSocket: {{port: 6379}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: redis}}
spec:
  selector: {{app: redis}}
  # A well-known port, for which nothing is declared.
  ports: [{{port: 6379}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: client, labels: {{app: client}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  # Redis' image for its redis-cli, and Redis itself on another port for something that stays.
  - {{name: app, image: '{image}', args: ['--port', '7000']}}
"
        ))
        .await?;
        case.pod_ready("redis").await?;
        case.pod_ready("client").await?;
        let cli = ["/usr/bin/redis-cli", "-h", "redis"];
        let set = case.exec_ok("client", &[&cli[..], &["set", "colour", "blue"]].concat()).await?;
        ensure!(set.trim() == "OK", "set: {set}");
        let get = case.exec_ok("client", &[&cli[..], &["get", "colour"]].concat()).await?;
        ensure!(get.trim() == "blue", "get: {get}");
        let client = case.scrape_of("client").await?;
        let redis = [("direction", "outbound"), ("dst_service", "redis")];
        ensure!(client.sum("tcp_open_total", &redis) >= 2.0, "the connections to Redis are not counted");
        ensure!(client.sum("request_total", &redis) == 0.0, "Redis' bytes were read as requests");
        Ok(())
    });
}
