//! What disturbs the whole mesh: one case at a time (`--test-threads 1`), and each leaves the mesh as it found it.
#![allow(clippy::unwrap_used, clippy::panic)]

mod operator;
mod release;
mod rotation;
mod status;
mod tools;

use anyhow::{Result, ensure};
use conduit_e2e::{Case, eventually, manifest};
use std::time::Duration;

/// A meshed server and a meshed client of it.
async fn pair(case: &Case) -> Result<()> {
    case.apply(&manifest::echo("echo", 2)).await?;
    case.apply(&manifest::client("client")).await?;
    case.available("echo").await?;
    case.available("client").await
}

/// A ServiceProfile of the case's Service `echo`, whose requests all go by one route.
fn profile(case: &Case, route: &str) -> String {
    format!(
        "apiVersion: conduit.io/v1alpha1
kind: ServiceProfile
metadata: {{name: echo.{}.svc.cluster.local}}
spec:
  routes: [{{name: {route}, condition: {{pathRegex: /.*}}}}]
",
        case.namespace
    )
}

/// Waits until requests of this route are counted by the client's proxy.
async fn route_grows(case: &Case, route: &str) -> Result<()> {
    route_grows_within(case, route, Duration::from_secs(15)).await
}

async fn route_grows_within(case: &Case, route: &str, within: Duration) -> Result<()> {
    let labels = [("direction", "outbound"), ("rt_route", route)];
    let before = case.scrape_of("client").await?.sum("route_response_total", &labels);
    eventually(&format!("route {route} grows"), within, || async {
        let now = case.scrape_of("client").await?.sum("route_response_total", &labels);
        ensure!(now > before, "it stays at {now}");
        Ok(())
    })
    .await
}
