//! ServiceProfiles: a change reaches running proxies, a bad one is refused with its field, and status tells the truth.

use anyhow::{Result, ensure};
use conduit_e2e::{Case, Mesh, eventually, manifest, workload};
use std::{collections::BTreeMap, time::Duration};

/// A ServiceProfile of the case's Service `echo` with these routes.
fn profile(case: &Case, routes: &str) -> String {
    format!(
        "apiVersion: conduit.io/v1alpha1
kind: ServiceProfile
metadata: {{name: echo.{}.svc.cluster.local}}
spec:
  routes:
{routes}",
        case.namespace
    )
}

#[test]
fn a_profile_applied_while_traffic_flows_changes_the_routes_without_a_restart() {
    Case::run("profile", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 2)).await?;
        case.apply(&manifest::client("client")).await?;
        case.available("echo").await?;
        case.available("client").await?;
        let name = format!("echo.{}.svc.cluster.local", case.namespace);
        let before = pods(&case).await?;
        let traffic = case.traffic("client", "http://echo", 50).await?;
        grows(&case, "[DEFAULT]", "success").await?;

        let routes = "  - {name: read, condition: {method: GET, pathRegex: /inspect}}
  - {name: write, condition: {all: [{method: POST}, {not: {pathRegex: /other.*}}]}}
";
        case.apply(&profile(&case, routes)).await?;
        for route in ["read", "write"] {
            grows(&case, route, "success").await?;
        }
        case.profile_condition(&name, "Accepted", "True").await?;
        case.profile_condition(&name, "ResolvedRefs", "True").await?;
        // One client and two servers.
        case.profile_programmed(&name, 3).await?;

        // The same responses, by another judgement.
        let classed = "  - name: read
    condition: {method: GET}
    responseClasses: [{condition: {status: {min: 200, max: 299}}, isFailure: true}]
";
        case.apply(&profile(&case, classed)).await?;
        grows(&case, "read", "failure").await?;
        grows(&case, "[DEFAULT]", "success").await?;

        traffic.end().await?.none_failed()?;
        ensure!(pods(&case).await? == before, "a pod or a container was restarted");
        Ok(())
    });
}

/// Waits until requests of this route are counted, by the client's proxy and by a server's.
async fn grows(case: &Case, route: &str, classification: &str) -> Result<()> {
    for (app, direction) in [("client", "outbound"), ("echo", "inbound")] {
        let labels = [("direction", direction), ("rt_route", route), ("classification", classification)];
        let read = || async {
            let mut sum = 0.0;
            for pod in case.pods_of(app).await? {
                let name = pod.metadata.name.unwrap_or_default();
                sum += case.scrape(&name).await?.sum("route_response_total", &labels);
            }
            Ok::<_, anyhow::Error>(sum)
        };
        let before = read().await?;
        eventually(
            &format!("{direction} {classification} of route {route} grows"),
            Duration::from_secs(10),
            || async {
                let now = read().await?;
                ensure!(now > before, "it stays at {now}");
                Ok(())
            },
        )
        .await?;
    }
    Ok(())
}

/// Every pod with the restarts of its containers.
async fn pods(case: &Case) -> Result<BTreeMap<String, Vec<i32>>> {
    let mut pods = BTreeMap::new();
    for app in ["client", "echo"] {
        for pod in case.pods_of(app).await? {
            pods.insert(pod.metadata.uid.clone().unwrap_or_default(), workload::restarts(&pod));
        }
    }
    Ok(pods)
}

#[test]
fn a_bad_profile_is_refused_with_every_field_that_is_wrong() {
    Case::run("bad-profile", Mesh::Absent, async |case| {
        let routes = "  - {name: a, condition: {pathRegex: '/x('}}
  - {name: a, condition: {method: GET}}
";
        let refusal = case.refused(&profile(&case, routes)).await?;
        for field in ["spec.routes[0].condition.pathRegex", "spec.routes[1].name"] {
            ensure!(refusal.contains(field), "it does not name {field}: {refusal}");
        }
        let empty = "  - {name: a, condition: {}}\n";
        let refusal = case.refused(&profile(&case, empty)).await?;
        ensure!(refusal.contains("spec.routes[0].condition"), "an empty condition: {refusal}");

        let deep = "  - {name: a, condition: {all: [{any: [{not: {method: GET}}]}]}}\n";
        let refusal = case.refused(&profile(&case, deep)).await?;
        ensure!(refusal.contains("three levels"), "nesting past three levels: {refusal}");
        let deep = "  - {name: a, condition: {not: {not: {not: {not: {method: GET}}}}}}\n";
        let refusal = case.refused(&profile(&case, deep)).await?;
        ensure!(refusal.contains("three levels"), "nesting past three levels: {refusal}");

        let misnamed = profile(&case, "  - {name: a, condition: {method: GET}}\n").replace(".svc.cluster.local", "");
        let refusal = case.refused(&misnamed).await?;
        ensure!(refusal.contains("metadata.name"), "it does not say how it must be named: {refusal}");

        let typo = "  - {name: a, condition: {method: GET}, isRetriable: true}\n";
        let refusal = case.refused(&profile(&case, typo)).await?;
        ensure!(refusal.contains("isRetriable"), "an unknown field: {refusal}");
        Ok(())
    });
}

#[test]
fn a_profile_with_a_field_that_nothing_implements_is_in_force_but_for_that_field() {
    Case::run("part-profile", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        case.apply(&manifest::client("client")).await?;
        case.available("echo").await?;
        case.available("client").await?;
        let routes = "  - {name: read, condition: {method: GET}, timeout: 1s}\n";
        let warnings = case.apply(&profile(&case, routes)).await?.join("\n");
        ensure!(warnings.contains("spec.routes[0].timeout"), "no warning names the field: {warnings:?}");
        let name = format!("echo.{}.svc.cluster.local", case.namespace);
        let accepted = case.profile_condition(&name, "Accepted", "False").await?;
        ensure!(accepted.reason == "UnsupportedField", "{}: {}", accepted.reason, accepted.message);
        ensure!(accepted.message.contains("spec.routes[0].timeout"), "{}", accepted.message);
        let traffic = case.traffic("client", "http://echo", 20).await?;
        grows(&case, "read", "success").await?;
        traffic.end().await?.none_failed()
    });
}
