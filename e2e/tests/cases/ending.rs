//! The end of a pod that others are connected to.

use anyhow::{Context, Result, ensure};
use conduit_e2e::{
    Case, Mesh, command, eventually,
    manifest::{self, PROGRAM},
};
use kube::api::DeleteParams;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A port of the pod for each connection that is held, by its protocol.
const HELD: [(&str, &str); 2] = [("ws://echo", "8080"), ("tcp://echo:9000", "9000")];

#[test]
fn a_deleted_pod_finishes_its_requests_and_its_connections_last_as_long_as_its_grace() {
    Case::run("ending", Mesh::Enabled, async |case| {
        let grace = |seconds: u32| format!("terminationGracePeriodSeconds: {seconds}");
        case.apply(&manifest::echo("echo", 1).replace(&grace(30), &grace(15))).await?;
        case.apply(&manifest::client("client")).await?;
        case.available("echo").await?;
        case.available("client").await?;
        let pod = case.pod("echo").await?.metadata.name.context("a pod without a name")?;

        let mut held = Vec::new();
        for (target, _) in HELD {
            held.push(started(&case, "hold", target).await?);
        }
        moving(&case, &pod).await?;
        let before = requests(&case, &pod).await?;
        let request = started(&case, "fetch", "http://echo/inspect?delay_ms=5000").await?;
        eventually("the pod has the long request", Duration::from_secs(3), || async {
            ensure!(requests(&case, &pod).await? > before, "it has not");
            Ok(())
        })
        .await?;

        case.pods().delete(&pod, &DeleteParams::default()).await?;
        moving(&case, &pod).await?;
        let answer = request.await??;
        ensure!(answer["detail"]["status"] == 200, "the long request: {answer}");
        ensure!(answer["detail"]["headers"]["x-served-by"] == *pod, "another pod has answered: {answer}");
        for ((target, _), held) in HELD.iter().zip(&held) {
            ensure!(!held.is_finished(), "{target} ended while the pod had time left");
        }
        for held in held {
            let line = held.await??;
            ensure!(line["ok"] == true, "{line}");
        }
        eventually("the pod is gone", Duration::from_secs(30), || async {
            ensure!(case.pods().get_opt(&pod).await?.is_none(), "it is still there");
            Ok(())
        })
        .await
    });
}

/// Starts a check in the client's pod, and gives its line when it has ended.
async fn started(case: &Case, check: &str, target: &str) -> Result<JoinHandle<Result<serde_json::Value>>> {
    let client = case.pod("client").await?.metadata.name.context("a pod without a name")?;
    let process = case.start(&client, &[PROGRAM, "check", check, target, "--timeout", "120s"]).await?;
    Ok(tokio::spawn(async { command::finish(process).await?.json() }))
}

/// Waits until bytes move on every connection that is held.
async fn moving(case: &Case, pod: &str) -> Result<()> {
    for (target, port) in HELD {
        let read = || async {
            let labels = [("direction", "inbound"), ("peer", "src"), ("target_port", port)];
            Ok::<_, anyhow::Error>(case.scrape(pod).await?.sum("tcp_read_bytes_total", &labels))
        };
        let first = read().await?;
        eventually(&format!("bytes come from {target}"), Duration::from_secs(5), || async {
            let now = read().await?;
            // More than a request or two: messages of what is held.
            ensure!(now >= first + 5000.0, "{first} bytes before, {now} now");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Requests that the pod's proxy has begun.
async fn requests(case: &Case, pod: &str) -> Result<f64> {
    let labels = [("direction", "inbound"), ("target_port", "8080")];
    Ok(case.scrape(pod).await?.sum("request_total", &labels))
}
