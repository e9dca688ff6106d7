//! Every way to name what is called: a pod of a StatefulSet, a pod's own address, and a Service that has no pods.

use anyhow::{Context, Result, ensure};
use conduit_e2e::{
    Case, Mesh, eventually,
    manifest::{self, IMAGE, PROGRAM},
    workload,
};
use std::time::{Duration, Instant};

#[test]
fn the_pods_of_a_stateful_set_are_called_by_name() {
    Case::run("stateful", Mesh::Enabled, async |case| {
        case.apply(&manifest::client("client")).await?;
        case.apply(&format!(
            "apiVersion: v1
kind: Service
metadata: {{name: peers}}
spec:
  clusterIP: None
  selector: {{app: peer}}
  ports: [{{name: http, port: 8080}}, {{name: stream, port: 9000, appProtocol: tcp}}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: peer}}
spec:
  serviceName: peers
  replicas: 2
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: peer}}}}
  template:
    metadata: {{labels: {{app: peer}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: app
        image: {IMAGE}
        args: [echo-server, --http, '8080', --tcp, '9000']
        readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1}}
"
        ))
        .await?;
        case.available("client").await?;
        eventually("both peers are ready", Duration::from_secs(60), || async {
            let ready = case.pods_of("peer").await?.iter().filter(|pod| workload::is_ready(pod)).count();
            ensure!(ready == 2, "{ready} are");
            Ok(())
        })
        .await?;
        for peer in ["peer-0", "peer-1"] {
            let detail = case.reaches("client", "http1", &format!("http://{peer}.peers:8080")).await?;
            ensure!(detail["served_by"] == peer, "{peer} was asked, {} answered", detail["served_by"]);
            case.check("client", "half-close", &format!("{peer}.peers:9000")).await?;
        }
        // The name of them all is one of them.
        case.check("client", "http1", "http://peers:8080").await?;
        let peers = [("direction", "outbound"), ("dst_statefulset", "peer")];
        let requests = case.scrape_of("client").await?.sum("request_total", &peers);
        ensure!(
            requests >= 21.0,
            "the client's proxy counted {requests} requests to the StatefulSet, not 7 to each name"
        );
        Ok(())
    });
}

#[test]
fn a_pod_that_is_called_by_its_own_address_is_called_as_itself() {
    Case::run("address", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        case.apply(&manifest::plain(&manifest::echo("plain-echo", 1))).await?;
        case.apply(&manifest::client("client")).await?;
        for app in ["echo", "plain-echo", "client"] {
            case.available(app).await?;
        }
        for (app, secured) in [("echo", "true"), ("plain-echo", "no_identity")] {
            let address = case.pod(app).await?.status.and_then(|status| status.pod_ip).context("no address")?;
            for (check, target) in [
                ("http1", format!("http://{address}:8080")),
                ("grpc", format!("http://{address}:8083")),
                ("half-close", format!("{address}:9001")),
            ] {
                case.check("client", check, &target).await.with_context(|| format!("{app}, {secured}"))?;
            }
            let labels = [("direction", "outbound"), ("dst_deployment", app), ("tls", secured)];
            eventually("what was sent to it is counted", Duration::from_secs(5), || async {
                let client = case.scrape_of("client").await?;
                let (requests, connections) =
                    (client.sum("request_total", &labels), client.sum("tcp_open_total", &labels));
                ensure!(
                    requests >= 13.0 && connections >= 3.0,
                    "{app}: {requests} requests, {connections} connections"
                );
                Ok(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn a_service_without_endpoints_is_answered_at_once_with_the_reason() {
    Case::run("no-endpoints", Mesh::Enabled, async |case| {
        case.apply(&manifest::client("client")).await?;
        case.apply(&manifest::echo("echo", 0)).await?;
        case.available("client").await?;
        let begin = Instant::now();
        let answer = case.check("client", "fetch", "http://echo/inspect").await?;
        ensure!(answer["status"] == 503, "{answer}");
        let wanted = format!("no-endpoints; object=service/{}/echo", case.namespace);
        ensure!(answer["headers"]["conduit-error"] == wanted, "{answer}, not {wanted}");
        ensure!(begin.elapsed() < Duration::from_secs(2), "it took {:?}", begin.elapsed());

        // As each protocol says it.
        let call = refused(&case, "grpc", "http://echo:82").await?;
        ensure!(call.contains("unavailable") && call.contains("no-endpoints"), "gRPC: {call}");
        let bytes = refused(&case, "half-close", "echo:9000").await?;
        ensure!(bytes.contains("reset"), "TCP: {bytes}");
        Ok(())
    });
}

/// What a check says that must fail.
async fn refused(case: &Case, check: &str, target: &str) -> Result<String> {
    let pod = case.pod("client").await?.metadata.name.context("a pod without a name")?;
    let line = case.exec(&pod, &[PROGRAM, "check", check, target, "--timeout", "5s"]).await?.json()?;
    ensure!(line["ok"] == false, "{check} to {target} was served");
    Ok(line["error"].as_str().unwrap_or_default().to_owned())
}
