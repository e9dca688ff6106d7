//! What goes from node to node cannot be read there, and a user can see that.

use anyhow::{Context, Result, ensure};
use conduit_e2e::{
    Case, Mesh,
    capture::{Capture, Heard},
    eventually, manifest, tool,
};
use serde_json::Value;
use std::time::Duration;

/// In the path of a request, and with it in the answer.
const WORD: &str = "the-word-that-nobody-may-read";
/// In every body that the checks send and get back.
const PATTERN: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

#[test]
fn what_goes_from_node_to_node_cannot_be_read_there() {
    Case::run("encrypted", Mesh::Enabled, async |case| {
        case.service_accounts(&["server", "client"]).await?;
        let on = |node: &str, account: &str, yaml: &str| {
            manifest::also(yaml, &format!("nodeName: {node}\n  serviceAccountName: {account}"))
        };
        case.apply(&on("node2", "server", &manifest::echo("echo", 1))).await?;
        case.apply(&on("node1", "client", &manifest::client("client"))).await?;
        case.apply(&on("node1", "client", &manifest::plain(&manifest::client("plain-client")))).await?;
        for app in ["echo", "client", "plain-client"] {
            case.available(app).await?;
        }
        case.reaches("plain-client", "http1", "http://echo").await?;

        let server = address(&case, "echo").await?;
        // First what a listener hears of a client that has no proxy: it does hear.
        let heard = heard(&case, "plain-client", &server).await?;
        for word in [WORD, PATTERN] {
            ensure!(heard.words[word] > 0, "the listener would not have heard {word}: {heard:?}");
        }
        // It has not called before: a connection that was open already would begin with anything.
        let heard = self::heard(&case, "client", &server).await?;
        ensure!(heard.packets > 100 && heard.tls >= 2, "the listener did not hear the connections: {heard:?}");
        ensure!(heard.words.values().all(|times| *times == 0), "words can be read on the wire: {heard:?}");
        ensure!(heard.other == 0, "connections that did not begin with a TLS handshake: {heard:?}");

        let identity = |account: &str| format!("spiffe://cluster.local/ns/{}/sa/{account}", case.namespace);
        eventually("conduit edges tells the two clients apart", Duration::from_secs(10), || async {
            let printed = tool::conduit(&["edges", "--namespace", &case.namespace, "--output", "json"]).await?;
            let edges: Value = serde_json::from_str(&printed).with_context(|| printed.clone())?;
            let rows = edges["rows"].as_array().with_context(|| format!("no rows: {printed}"))?;
            let to_echo = |row: &&Value| row["dst"] == "deploy/echo";
            let of = |client: &str| rows.iter().filter(to_echo).filter(|row| row["src"] == client).collect::<Vec<_>>();
            let secured = of("deploy/client");
            ensure!(
                !secured.is_empty()
                    && secured.iter().all(|row| row["secured"] == true
                        && row["client_id"] == identity("client").as_str()
                        && row["server_id"] == identity("server").as_str()),
                "the meshed client is not secured, or not as itself: {printed}"
            );
            let outside = of("(outside)");
            ensure!(
                outside.iter().any(|row| row["secured"] == false && row["reason"].is_string()),
                "nothing tells of the client without a proxy: {printed}"
            );
            Ok(())
        })
        .await
    });
}

/// What a listener hears while a client speaks every protocol with the server.
async fn heard(case: &Case, client: &str, server: &str) -> Result<Heard> {
    let capture = Capture::between([&address(case, client).await?, server], &[WORD, PATTERN]).await?;
    let answer = case.check(client, "fetch", &format!("http://echo/inspect?{WORD}")).await?;
    ensure!(answer["status"] == 200 && answer["body"].as_str().is_some_and(|body| body.contains(WORD)), "{answer}");
    for (check, target) in [
        ("http1", "http://echo"),
        ("h2", "http://echo:81"),
        ("grpc", "http://echo:82"),
        ("websocket", "http://echo"),
        ("half-close", "echo:9000"),
        ("server-first", "echo:9002"),
    ] {
        case.check(client, check, target).await?;
    }
    capture.end().await
}

async fn address(case: &Case, app: &str) -> Result<String> {
    case.pod(app).await?.status.and_then(|status| status.pod_ip).with_context(|| format!("{app} has no address"))
}
