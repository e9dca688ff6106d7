//! `STRICT`: whoever has no identity is refused; the kubelet, which has none, is not.

use anyhow::{Result, ensure};
use conduit_e2e::{Case, Mesh, eventually, manifest, workload};
use std::time::Duration;

const POLICY: &str = "apiVersion: conduit.io/v1alpha1
kind: TrafficPolicy
metadata: {name: strict}
spec:
  targetRefs: [{kind: Namespace}]
  inbound: {mtls: {mode: STRICT}}
";

/// The kinds of probes, each as it stands in a container.
const PROBES: [(&str, &str); 5] = [
    ("http", "httpGet: {path: /ready, port: 8080}"),
    ("https", "httpGet: {path: /ready, port: 8443, scheme: HTTPS}"),
    ("tcp", "tcpSocket: {port: 8080}"),
    ("grpc", "grpc: {port: 8080}"),
    ("exec", "exec: {command: [/conduit-demo, check, http1, 'http://localhost:8080']}"),
];

#[test]
fn under_strict_the_kubelet_s_probes_pass_and_the_same_from_a_pod_does_not() {
    Case::run("strict-probes", Mesh::Enabled, async |case| {
        case.apply(POLICY).await?;
        case.policy_condition("strict", "Accepted", "True").await?;
        for (kind, probe) in PROBES {
            let probes = format!(
                "    readinessProbe: {{{probe}, periodSeconds: 1, timeoutSeconds: 5}}
    livenessProbe: {{{probe}, periodSeconds: 1, failureThreshold: 3, initialDelaySeconds: 5, timeoutSeconds: 5}}"
            );
            case.apply(&manifest::pod(kind, "[echo-server, --http, '8080', --https, '8443']", &probes)).await?;
        }
        case.apply(&manifest::plain(&manifest::client("plain-client"))).await?;
        case.available("plain-client").await?;
        for (kind, _) in PROBES {
            case.pod_ready(kind).await?;
        }
        for (kind, _) in PROBES {
            let address = case.pod(kind).await?.status.and_then(|status| status.pod_ip).unwrap_or_default();
            for path in ["/ready", "/inspect", "/"] {
                let answer = case.check("plain-client", "fetch", &format!("http://{address}:8080{path}")).await?;
                ensure!(answer["status"] == 403, "{kind}: {path} from a pod: {answer}");
            }
            let error = failure(&case, "plain-client", "https", &format!("https://{address}:8443")).await?;
            ensure!(!error.is_empty(), "{kind}: the application's own TLS is open to a pod");
        }
        // Long enough for every liveness probe to have failed three times.
        tokio::time::sleep(Duration::from_secs(10)).await;
        for (kind, _) in PROBES {
            let pod = case.pod(kind).await?;
            ensure!(workload::is_ready(&pod), "{kind} is not ready any more: {}", workload::state(&pod));
            ensure!(workload::restarts(&pod).iter().all(|times| *times == 0), "{kind}: {}", workload::state(&pod));
        }
        Ok(())
    });
}

#[test]
fn under_strict_plaintext_is_refused_in_every_protocol_and_meshed_clients_notice_nothing() {
    Case::run("strict", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        case.apply(&manifest::client("client")).await?;
        case.apply(&manifest::plain(&manifest::client("plain-client"))).await?;
        for app in ["echo", "client", "plain-client"] {
            case.available(app).await?;
        }
        const CHECKS: [(&str, &str); 9] = [
            ("http1", "http://echo"),
            ("websocket", "http://echo"),
            ("h2", "http://echo:81"),
            ("grpc", "http://echo:82"),
            ("http1", "http://echo:83"),
            ("https", "https://echo"),
            ("half-close", "echo:9000"),
            ("half-close", "echo:9001"),
            ("server-first", "echo:9002"),
        ];
        case.reaches("plain-client", "http1", "http://echo").await?;
        for (check, target) in CHECKS {
            case.check("plain-client", check, target).await?;
        }
        case.apply(POLICY).await?;
        case.policy_condition("strict", "Programmed", "True").await?;
        for (check, target) in CHECKS {
            case.check("client", check, target).await?;
            failure(&case, "plain-client", check, target).await?;
        }
        let answer = case.check("plain-client", "fetch", "http://echo/inspect").await?;
        let wanted = format!("tls-required; object=trafficpolicy/{}/strict", case.namespace);
        ensure!(answer["status"] == 403 && answer["headers"]["conduit-error"] == wanted, "{answer}, not {wanted}");
        let grpc = failure(&case, "plain-client", "grpc", "http://echo:82").await?;
        ensure!(grpc.contains("PermissionDenied") || grpc.contains("permission"), "gRPC: {grpc}");
        // The Service's kubelet probe of port 8079 goes on.
        ensure!(workload::is_ready(&case.pod("echo").await?), "echo is not ready any more");

        // One port alone is opened again, then the whole.
        case.apply(
            "apiVersion: conduit.io/v1alpha1
kind: TrafficPolicy
metadata: {name: one-port}
spec:
  targetRefs: [{kind: Service, name: echo, sectionName: bytes}]
  inbound: {mtls: {mode: PERMISSIVE}}
",
        )
        .await?;
        case.policy_condition("one-port", "Programmed", "True").await?;
        case.reaches("plain-client", "half-close", "echo:9000").await?;
        failure(&case, "plain-client", "half-close", "echo:9001").await?;
        case.apply(&POLICY.replace("STRICT", "DISABLE")).await?;
        case.policy_condition("strict", "Programmed", "True").await?;
        let plaintext = [("direction", "outbound"), ("dst_service", "echo"), ("no_tls_reason", "disabled_by_policy")];
        eventually("peers are told to send plaintext", Duration::from_secs(10), || async {
            case.check("client", "http1", "http://echo").await?;
            let requests = case.scrape_of("client").await?.sum("request_total", &plaintext);
            ensure!(requests > 0.0, "every request is encrypted");
            Ok(())
        })
        .await?;
        case.check("plain-client", "http1", "http://echo").await?;
        Ok(())
    });
}

/// What a check that must fail says.
async fn failure(case: &Case, app: &str, check: &str, target: &str) -> Result<String> {
    let pod = case.pod(app).await?.metadata.name.unwrap_or_default();
    let line = case.exec(&pod, &[manifest::PROGRAM, "check", check, target]).await?.json()?;
    ensure!(line["ok"] == false, "{check} from {app} to {target} was served");
    Ok(line["error"].as_str().unwrap_or_default().to_owned())
}
