//! The access log, where a user switches it on: who asked for what, and by which name where the application has its own TLS.

use anyhow::{Context, Result, ensure};
use conduit_e2e::{Case, Mesh, eventually, manifest};
use kube::api::LogParams;
use serde_json::Value;
use std::time::Duration;

/// The name that the check `https` asks for.
const SNI: &str = "conduit-demo";

#[test]
fn the_access_log_tells_requests_and_the_names_that_own_tls_asks_for() {
    Case::run("access-log", Mesh::Enabled, async |case| {
        let logged = |yaml: &str| {
            yaml.replace("labels: {app: ", "annotations: {config.conduit.io/access-log: json}, labels: {app: ")
        };
        case.apply(&logged(&manifest::echo("echo", 1))).await?;
        case.apply(&logged(&manifest::client("client"))).await?;
        // Meshed, and has not asked for it.
        case.apply(&manifest::client("silent")).await?;
        for app in ["echo", "client", "silent"] {
            case.available(app).await?;
        }
        for app in ["client", "silent"] {
            // Declared, and found out.
            case.check(app, "https", "https://echo").await?;
            case.check(app, "https", "https://echo:444").await?;
            case.check(app, "fetch", &format!("http://echo/inspect?from={app}")).await?;
        }
        let mesh = |line: &Value| line["tls"] == "true";
        eventually("the client's proxy has written its lines", Duration::from_secs(10), || async {
            let lines = lines(&case, "client").await?;
            let own_tls =
                lines.iter().filter(|line| line["direction"] == "outbound" && names_own_tls(line) && mesh(line));
            ensure!(own_tls.count() == 2, "{lines:?}");
            ensure!(lines.iter().filter(|line| line["uri"] == "/inspect?from=client").count() == 1, "{lines:?}");
            Ok(())
        })
        .await?;
        eventually("the server's has written about both clients", Duration::from_secs(10), || async {
            let lines = lines(&case, "echo").await?;
            let own_tls =
                lines.iter().filter(|line| line["direction"] == "inbound" && names_own_tls(line) && mesh(line));
            ensure!(own_tls.count() == 4, "{lines:?}");
            for app in ["client", "silent"] {
                let uri = format!("/inspect?from={app}");
                let request =
                    lines.iter().find(|line| line["uri"] == *uri).with_context(|| format!("{uri}: {lines:?}"))?;
                ensure!(request["status"] == 200 && mesh(request), "{request}");
            }
            Ok(())
        })
        .await?;
        let uninvited = lines(&case, "silent").await?;
        ensure!(uninvited.is_empty(), "nobody asked for it: {uninvited:?}");
        Ok(())
    });
}

fn names_own_tls(line: &Value) -> bool {
    line["kind"] == "connection" && line["protocol"] == "tls" && line["sni"] == SNI
}

/// The lines of the access log of the proxy of the one pod of `app`.
async fn lines(case: &Case, app: &str) -> Result<Vec<Value>> {
    let pod = case.pod(app).await?.metadata.name.context("a pod without a name")?;
    let parameters = LogParams { container: Some("conduit-proxy".into()), ..LogParams::default() };
    let log = case.pods().logs(&pod, &parameters).await?;
    let lines = log.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))).collect()
}
