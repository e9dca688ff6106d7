//! TrafficPolicies: what a port is treated as.

use anyhow::{Result, ensure};
use conduit_e2e::{Case, Mesh, eventually, manifest};
use std::time::Duration;

#[test]
fn a_traffic_policy_changes_how_a_port_is_treated() {
    Case::run("policy", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        case.apply(&manifest::client("client")).await?;
        case.available("echo").await?;
        case.available("client").await?;
        case.check("client", "http1", "http://echo").await?;
        ensure!(requests(&case).await? > 0.0, "HTTP is not counted as requests before the policy");

        case.apply(
            "apiVersion: conduit.io/v1alpha1
kind: TrafficPolicy
metadata: {name: opaque}
spec:
  targetRefs: [{kind: Service, name: echo, sectionName: http}]
  outbound: {protocol: {type: Opaque}}
  inbound: {protocol: {type: Opaque}}
",
        )
        .await?;
        case.policy_condition("opaque", "Accepted", "True").await?;
        case.policy_condition("opaque", "ResolvedRefs", "True").await?;
        // The client by its subscription, the server for its own port.
        eventually("both proxies have it", Duration::from_secs(20), || async {
            let programmed = case.policy_condition("opaque", "Programmed", "True").await?;
            ensure!(programmed.message == "2/2 proxies", "{}", programmed.message);
            Ok(())
        })
        .await?;

        let before = requests(&case).await?;
        case.check("client", "http1", "http://echo").await?;
        ensure!(requests(&case).await? == before, "an opaque port's bytes are read as requests");
        // The policy is for one port of the Service.
        case.check("client", "http1", "http://echo:83").await?;
        ensure!(requests(&case).await? > before, "the policy went further than its target");
        Ok(())
    });
}

#[test]
fn a_field_that_nothing_implements_is_said_to_be_unsupported() {
    Case::run("unsupported", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 0)).await?;
        let warnings = case
            .apply(
                "apiVersion: conduit.io/v1alpha1
kind: TrafficPolicy
metadata: {name: timeouts}
spec:
  targetRefs: [{kind: Service, name: echo}]
  outbound: {timeouts: {request: 1s}}
",
            )
            .await?
            .join("\n");
        ensure!(warnings.contains("spec.outbound.timeouts"), "no warning names the field: {warnings:?}");
        let accepted = case.policy_condition("timeouts", "Accepted", "False").await?;
        ensure!(accepted.reason == "UnsupportedField", "{}: {}", accepted.reason, accepted.message);
        ensure!(accepted.message.contains("spec.outbound.timeouts"), "{}", accepted.message);
        Ok(())
    });
}

#[test]
fn the_status_says_when_the_target_does_not_exist_and_when_it_appears() {
    Case::run("target", Mesh::Enabled, async |case| {
        case.apply(
            "apiVersion: conduit.io/v1alpha1
kind: TrafficPolicy
metadata: {name: early}
spec:
  targetRefs: [{kind: Service, name: echo}]
  outbound: {protocol: {type: HTTP1}}
",
        )
        .await?;
        let resolved = case.policy_condition("early", "ResolvedRefs", "False").await?;
        ensure!(resolved.reason == "TargetNotFound", "{}", resolved.reason);
        case.apply(&manifest::echo("echo", 0)).await?;
        case.policy_condition("early", "ResolvedRefs", "True").await?;
        Ok(())
    });
}

/// Requests that the client's proxy counted. Read after the proxy's records have closed, which follows the last byte.
async fn requests(case: &Case) -> Result<f64> {
    let read = || async {
        let scrape = case.scrape_of("client").await?;
        Ok::<_, anyhow::Error>(scrape.sum("request_total", &[("direction", "outbound"), ("dst_service", "echo")]))
    };
    let first = read().await?;
    eventually("the count is still", Duration::from_secs(5), || async {
        ensure!(read().await? == first, "it moves");
        Ok(())
    })
    .await?;
    Ok(first)
}
