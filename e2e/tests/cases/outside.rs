//! Traffic that leaves the mesh: to a server outside the cluster, and to the API server. It passes and is counted.

use anyhow::ensure;
use conduit_e2e::{
    Case, Mesh, Scrape,
    manifest::{self, PROGRAM},
    tool::{OUTSIDE, Outside},
};

#[test]
fn traffic_to_outside_the_cluster_passes_and_is_counted() {
    Case::run("outside", Mesh::Enabled, async |case| {
        let _server = Outside::start(&[
            "echo-server",
            "--http",
            "18080",
            "--https",
            "18443",
            "--tcp",
            "19000",
            "--banner",
            "19002",
        ])?;
        case.apply(&manifest::client("client")).await?;
        case.available("client").await?;
        for (check, target) in [
            ("http1", format!("http://{OUTSIDE}:18080")),
            ("websocket", format!("http://{OUTSIDE}:18080")),
            ("h2", format!("http://{OUTSIDE}:18080")),
            ("grpc", format!("http://{OUTSIDE}:18080")),
            ("https", format!("https://{OUTSIDE}:18443")),
            ("half-close", format!("{OUTSIDE}:19000")),
            ("server-first", format!("{OUTSIDE}:19002")),
        ] {
            let before = unknown(&case.scrape_of("client").await?);
            case.check("client", check, &target).await?;
            let after = unknown(&case.scrape_of("client").await?);
            ensure!(after > before, "{check}: {before} connections to nowhere known before, {after} after");
        }
        Ok(())
    });
}

#[test]
fn traffic_to_the_api_server_passes_and_is_counted() {
    Case::run("api-server", Mesh::Enabled, async |case| {
        case.apply(&manifest::client("client")).await?;
        case.available("client").await?;
        let pod = case.pod("client").await?.metadata.name.unwrap_or_default();
        let before = case.scrape_of("client").await?.sum("tcp_open_total", &[("direction", "outbound")]);
        let output = case.exec(&pod, &[PROGRAM, "check", "https", "https://kubernetes.default.svc"]).await?;
        // The API server is no echo server: what it says is its own answer, over its own TLS.
        let error = output.json()?["error"].as_str().unwrap_or_default().to_owned();
        ensure!(error.contains("the answer has no"), "it was not reached: {error}");
        let after = case.scrape_of("client").await?.sum("tcp_open_total", &[("direction", "outbound")]);
        ensure!(after > before, "{before} connections before, {after} after");
        Ok(())
    });
}

/// Connections to what is no Service of the cluster.
fn unknown(scrape: &Scrape) -> f64 {
    let all = scrape.sum("tcp_open_total", &[("direction", "outbound"), ("peer", "dst")]);
    let known: f64 = scrape
        .values("tcp_open_total", "dst_service")
        .into_iter()
        .map(|service| {
            scrape.sum("tcp_open_total", &[("direction", "outbound"), ("peer", "dst"), ("dst_service", service)])
        })
        .sum();
    all - known
}
