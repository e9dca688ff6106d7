//! Discovery tells a workload of itself alone, and tells nobody else.

use anyhow::{Context, ensure};
use conduit_e2e::{
    Case, Mesh,
    attack::{AUDIENCE, ISSUER, KEPT, attacker, refused},
    installation, manifest,
};
use serde_json::json;

#[test]
fn discovery_tells_a_workload_of_itself_alone_and_nobody_else_anything() {
    Case::run("subscription", Mesh::Enabled, async |case| {
        case.service_accounts(&["thief", "owner"]).await?;
        case.steal_issuer().await?;
        case.apply(&attacker("thief", "thief", "[sleep, 1h]")).await?;
        case.apply(&manifest::also(&manifest::client("owner"), "serviceAccountName: owner")).await?;
        let thief = case.pod_ready("thief").await?;
        case.available("owner").await?;
        let owner = format!("spiffe://cluster.local/ns/{}/sa/owner", case.namespace);
        let own = format!("spiffe://cluster.local/ns/{}/sa/thief", case.namespace);
        let before = refusals(&case).await?;
        for papers in [
            &[][..],
            &["--identity", &owner],
            &["--issuer", ISSUER, "--identity", &owner, "--expired"],
            &["--issuer", ISSUER, "--identity", "spiffe://elsewhere.example/ns/a/sa/b"],
            // Signed by the mesh, and names no pod: the identity service has not given it.
            &["--issuer", ISSUER, "--identity", &owner],
        ] {
            let line = case.attack("thief", &[&["watch"], papers].concat()).await?;
            refused(&line).with_context(|| format!("{papers:?}"))?;
            ensure!(line["inbound"].is_null(), "{papers:?}: {line}");
        }
        let after = refusals(&case).await?;
        ensure!(after >= before + 5.0, "{before} refusals were counted before, {after} after");

        // With a certificate that it came by honestly it sees itself, whatever else it asks for.
        let token = case.token("thief", AUDIENCE, Some(&thief)).await?;
        let certified = case.attack("thief", &["certify", "--token", &token, "--out", KEPT]).await?;
        ensure!(certified["chain"][0]["uris"] == json!([own]), "{certified}");
        let line = case.attack("thief", &["watch", "--certificate", KEPT]).await?;
        ensure!(line["ok"] == true, "{line}");
        ensure!(line["inbound"] == json!([format!("{}/thief/thief", case.namespace)]), "it was told of {line}");
        Ok(())
    });
}

async fn refusals(case: &Case) -> anyhow::Result<f64> {
    installation::counter(&case.cluster, "conduit_discovery_connections_refused_total", &[]).await
}
