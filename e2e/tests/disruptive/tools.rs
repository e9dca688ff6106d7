//! `conduit check` and `conduit identity` on a real cluster: what is well, and what is not.

use anyhow::{Context, Result, ensure};
use conduit_e2e::{Case, Mesh, eventually, manifest, tool};
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn conduit_says_what_is_well_and_what_is_not() {
    Case::run("tools", Mesh::Enabled, async |case| {
        let namespace = case.namespace.as_str();
        case.service_accounts(&["server"]).await?;
        case.apply(&manifest::also(&manifest::echo("echo", 1), "serviceAccountName: server")).await?;
        case.available("echo").await?;

        eventually("every check passes", Duration::from_secs(20), || async {
            let found = findings(&["check", "--proxy", "--namespace", namespace, "--output", "json"]).await?;
            let wrong: Vec<_> = found.iter().filter(|finding| finding["status"] != "passed").collect();
            ensure!(found.len() > 10 && wrong.is_empty(), "of {} checks these did not pass: {wrong:?}", found.len());
            Ok(())
        })
        .await?;

        let said = tool::conduit(&["identity", "deploy/echo", "--namespace", namespace, "--output", "json"]).await?;
        let said: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
        let own = &said["rows"][0];
        ensure!(own["identity"] == format!("spiffe://cluster.local/ns/{namespace}/sa/server"), "{own}");
        ensure!(own["last_renewal_error"].is_null(), "{own}");
        ensure!(own["trust_roots"].as_array().is_some_and(|roots| !roots.is_empty()), "{own}");

        // What a user may get wrong: a policy that this version does not carry out.
        case.apply(
            "apiVersion: conduit.io/v1alpha1
kind: TrafficPolicy
metadata: {name: timeouts}
spec:
  targetRefs: [{kind: Service, name: echo}]
  outbound: {timeouts: {request: 1s}}
",
        )
        .await?;
        case.policy_condition("timeouts", "Accepted", "False").await?;
        let found = findings(&["check", "--proxy", "--namespace", namespace, "--output", "json"]).await?;
        let policies = found.iter().find(|finding| finding["id"] == "policies-accepted").context("no such check")?;
        ensure!(policies["status"] != json!("passed"), "{policies}");
        ensure!(policies["message"].as_str().is_some_and(|words| words.contains("timeouts")), "{policies}");
        Ok(())
    });
}

/// What `conduit` prints with these arguments: a list, whatever its exit code.
async fn findings(arguments: &[&str]) -> Result<Vec<Value>> {
    let printed = match tool::conduit(arguments).await {
        Ok(printed) => printed,
        // A check that fails makes it exit with 1, and is printed all the same.
        Err(error) => {
            let text = format!("{error:#}");
            let (begin, end) = (text.find('[').with_context(|| text.clone())?, text.rfind(']').unwrap_or_default());
            text[begin..=end].to_owned()
        }
    };
    serde_json::from_str(&printed).with_context(|| printed.clone())
}
