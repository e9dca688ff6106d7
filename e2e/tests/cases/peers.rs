//! Peers that are not who they say: clients that come to a proxy, and servers that a proxy is sent to.

use anyhow::{Context, Result, ensure};
use conduit_e2e::{
    Case, Mesh,
    attack::{ISSUER, attacker, impostor, refused},
    eventually, manifest,
};
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn a_proxy_takes_nobody_without_a_certificate_of_the_mesh() {
    Case::run("clients", Mesh::Enabled, async |case| {
        case.service_accounts(&["thief", "server"]).await?;
        case.steal_issuer().await?;
        let echo = manifest::also(&manifest::echo("echo", 1), "serviceAccountName: server");
        case.apply(&echo).await?;
        case.apply(&attacker("thief", "thief", "[sleep, 1h]")).await?;
        case.available("echo").await?;
        case.pod_ready("thief").await?;
        let own = format!("spiffe://cluster.local/ns/{}/sa/thief", case.namespace);
        let server = format!("spiffe://cluster.local/ns/{}/sa/server", case.namespace);
        let address = case.pod("echo").await?.status.and_then(|status| status.pod_ip).context("no address")?;

        // The port is declared as one thing or another: what is said by ALPN counts.
        for (port, alpn) in
            [("8080", "conduit/http1"), ("8081", "conduit/h2"), ("8080", "conduit/tcp"), ("9000", "conduit/tcp")]
        {
            let to = format!("{address}:{port}");
            let attack = async |papers: &[&str]| {
                case.attack("thief", &[&["tls", "--to", &to, "--alpn", alpn], papers].concat()).await
            };
            // So that what is refused below is refused for its own reason.
            let line = attack(&["--issuer", ISSUER, "--identity", &own]).await?;
            ensure!(line["ok"] == true || (port, alpn) == ("8080", "conduit/tcp"), "with all that it takes: {line}");
            known(&line, alpn, &server)?;
            for papers in [
                &[][..],
                &["--identity", &own],
                &["--identity", &server],
                &["--issuer", ISSUER, "--identity", "spiffe://elsewhere.example/ns/a/sa/b"],
                &["--issuer", ISSUER, "--identity", "https://cluster.local/ns/a/sa/b"],
                &["--issuer", ISSUER, "--identity", &own, "--expired"],
            ] {
                refused(&attack(papers).await?).with_context(|| format!("{alpn} on {port} with {papers:?}"))?;
            }
            let old = attack(&["--tls12"]).await?;
            ensure!(old["ok"] == false && old["error"] == "alert 70", "TLS 1.2: {old}");
        }
        // The proxy is none the worse, and says what it saw.
        let scrape = case.scrape_of("echo").await?;
        let failed = scrape.sum("conduit_tls_handshakes_total", &[("direction", "inbound"), ("result", "failed")]);
        ensure!(failed >= 24.0, "it counted {failed} handshakes that failed");
        case.apply(&manifest::client("client")).await?;
        case.available("client").await?;
        case.check("client", "http1", "http://echo").await?;
        Ok(())
    });
}

/// What a foreign TLS stack agrees on with a proxy, and what it is shown.
fn known(line: &Value, alpn: &str, server: &str) -> Result<()> {
    let agreed = (&line["protocol"], &line["group"], &line["alpn"]);
    ensure!(agreed == (&json!("TLSv1_3"), &json!("X25519MLKEM768"), &json!(alpn)), "agreed on {agreed:?}");
    let own = &line["chain"][0];
    ensure!(own["uris"] == json!([server]) && own["names"] == 1, "it says that it is {own}");
    ensure!(line["chain"].as_array().is_some_and(|chain| chain.len() == 2), "its chain: {line}");
    Ok(())
}

#[test]
fn a_client_gives_nothing_to_a_server_that_is_not_who_it_should_be() {
    Case::run("servers", Mesh::Enabled, async |case| {
        case.service_accounts(&["shop"]).await?;
        case.steal_issuer().await?;
        let identity = |account: &str| format!("spiffe://cluster.local/ns/{}/sa/{account}", case.namespace);
        let (right, wrong) = (identity("shop"), identity("default"));
        let of_mesh =
            |identity: &str| format!("[attack, serve, --port, '8080', --issuer, {ISSUER}, --identity, '{identity}'");
        let elsewhere = of_mesh("spiffe://elsewhere.example/ns/shop/sa/shop");
        let servers = [
            // Its own certificate, if it had one: what is refused below is refused for its own reason.
            ("right", format!("{}]", of_mesh(&right))),
            ("other-workload", format!("{}]", of_mesh(&wrong))),
            ("other-domain", format!("{elsewhere}]")),
            ("other-root", format!("[attack, serve, --port, '8080', --identity, '{right}']")),
            ("expired", format!("{}, --expired]", of_mesh(&right))),
            // Called meshed, and there is no proxy: it would take plaintext, and noted it.
            ("no-proxy", "[attack, serve, --port, '8080']".to_owned()),
            ("no-proxy-required", "[attack, serve, --port, '8080']".to_owned()),
        ];
        for (name, arguments) in &servers {
            case.apply(&impostor(name, "shop", arguments)).await?;
            case.apply(&format!(
                "apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: 8080, appProtocol: http}}, {{name: bytes, port: 90, targetPort: 8080, appProtocol: tcp}}]
"
            ))
            .await?;
        }
        case.apply(&require("no-proxy-required")).await?;
        case.apply(&manifest::client("client")).await?;
        case.available("client").await?;
        for (name, _) in &servers {
            case.pod_ready(name).await?;
        }
        case.policy_condition("require-no-proxy-required", "Accepted", "True").await?;

        let fetched = async |name: &str| case.check("client", "fetch", &format!("http://{name}/secret")).await;
        eventually("the right one is called", Duration::from_secs(10), || async {
            let answer = fetched("right").await?;
            ensure!(answer["status"] == 200 && answer["body"] == "thank you\n", "{answer}");
            Ok(())
        })
        .await?;
        for (name, _) in &servers[1..] {
            let answer = fetched(name).await?;
            ensure!(answer["status"] == 503, "{name}: {answer}");
            let code = answer["headers"]["conduit-error"].as_str().unwrap_or_default();
            ensure!(code.starts_with("tls-failed;"), "{name}: {answer}");
            // Bytes that are not read are given away as little.
            let pod = case.pod("client").await?.metadata.name.context("a pod without a name")?;
            let bytes =
                case.exec(&pod, &["/conduit-demo", "check", "half-close", &format!("{name}:90")]).await?.json()?;
            ensure!(bytes["ok"] == false, "{name}: {bytes}");
        }
        for (name, _) in &servers[1..] {
            let lines = case.lines(name).await?;
            ensure!(!lines.is_empty(), "{name} was never called, which proves nothing");
            for line in lines {
                ensure!(line["tls"] != true, "{name} was taken for the right one: {line}");
                ensure!(
                    line["plaintext"].as_str().unwrap_or_default().is_empty(),
                    "{name} was given plaintext: {line}"
                );
            }
        }
        Ok(())
    });
}

/// A TrafficPolicy that lets clients of a Service send nothing in plaintext.
fn require(service: &str) -> String {
    format!(
        "apiVersion: conduit.io/v1alpha1
kind: TrafficPolicy
metadata: {{name: require-{service}}}
spec:
  targetRefs: [{{kind: Service, name: {service}}}]
  outbound: {{tls: {{mode: Require}}}}
"
    )
}

#[test]
fn with_require_a_service_without_proxies_gets_not_a_byte() {
    Case::run("require", Mesh::Enabled, async |case| {
        // A server of no mesh that notes what it gets, and tells no lies about itself.
        case.apply(&manifest::plain(&manifest::pod("plain", "[attack, serve, --port, '8080']", ""))).await?;
        case.apply(
            "apiVersion: v1
kind: Service
metadata: {name: plain}
spec:
  selector: {app: plain}
  ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}, {name: bytes, port: 90, targetPort: 8080, appProtocol: tcp}]
",
        )
        .await?;
        case.apply(&manifest::client("client")).await?;
        case.available("client").await?;
        case.pod_ready("plain").await?;
        eventually("it is called as it is, by default", Duration::from_secs(10), || async {
            let answer = case.check("client", "fetch", "http://plain/before").await?;
            ensure!(answer["status"] == 200, "{answer}");
            Ok(())
        })
        .await?;

        case.apply(&require("plain")).await?;
        case.policy_condition("require-plain", "Programmed", "True").await?;
        let wanted = format!("tls-required; object=service/{}/plain", case.namespace);
        let answer = case.check("client", "fetch", "http://plain/after").await?;
        ensure!(answer["status"] == 503 && answer["headers"]["conduit-error"] == wanted, "{answer}, not {wanted}");
        let pod = case.pod("client").await?.metadata.name.context("a pod without a name")?;
        let bytes = case.exec(&pod, &["/conduit-demo", "check", "half-close", "plain:90"]).await?.json()?;
        ensure!(bytes["ok"] == false, "bytes were taken: {bytes}");
        let lines = case.lines("plain").await?;
        let got = |line: &Value| line["plaintext"].as_str().unwrap_or_default().to_owned();
        ensure!(lines.iter().any(|line| got(line).contains("/before")), "it notes nothing: {lines:?}");
        ensure!(
            lines.iter().all(|line| got(line).is_empty() || got(line).contains("/before")),
            "it was given something: {lines:?}"
        );
        Ok(())
    });
}

#[test]
fn an_endpoint_that_has_the_name_of_one_pod_and_the_address_of_another_gets_nothing() {
    Case::run("endpoints", Mesh::Enabled, async |case| {
        case.service_accounts(&["owner", "thief"]).await?;
        for name in ["owner", "thief"] {
            let account = format!("serviceAccountName: {name}");
            case.apply(&manifest::also(&manifest::echo(name, 1), &account)).await?;
        }
        case.apply(&manifest::client("client")).await?;
        for app in ["owner", "thief", "client"] {
            case.available(app).await?;
        }
        let owner = case.pod("owner").await?.metadata.name.context("a pod without a name")?;
        let address = case.pod("thief").await?.status.and_then(|status| status.pod_ip).context("no address")?;
        // As somebody would write it who may edit EndpointSlices and wants the owner's requests.
        case.apply(&format!(
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: owner-too, labels: {{kubernetes.io/service-name: owner}}}}
addressType: IPv4
ports: [{{name: http, port: 8080, appProtocol: http}}]
endpoints:
- {{addresses: ['{address}'], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: {owner}, namespace: {}}}}}
",
            case.namespace
        ))
        .await?;
        let traffic = case.traffic("client", "http://owner", 50).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        traffic.end().await?.none_failed()?;
        let requests = async |app: &str| -> Result<f64> {
            let inbound = [("direction", "inbound"), ("target_port", "8080")];
            Ok(case.scrape_of(app).await?.sum("request_total", &inbound))
        };
        ensure!(requests("owner").await? > 100.0, "the owner was not called");
        ensure!(requests("thief").await? == 0.0, "the thief was called");
        Ok(())
    });
}
