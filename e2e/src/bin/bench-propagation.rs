//! How long a change takes: from the PATCH of a ServiceProfile sent to the first request that a client's proxy records under
//! the new route, under load.
//!
//! Each change renames the Service's one route. The proxy's metrics are read through the API server, again as soon as the
//! last reading is there; the time between two readings is the resolution, and is printed. The result goes to people,
//! and nothing is asserted on it: a time is no test.

use anyhow::{Context, Result};
use conduit_crds::ServiceProfile;
use conduit_e2e::{Case, Mesh, manifest};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::time::{Duration, Instant};

const CHANGES: u32 = 100;
const RATE: u32 = 500;
/// A change that takes longer has not arrived.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two changes, so that each is one of its own.
const PAUSE: Duration = Duration::from_millis(200);

fn main() {
    Case::run("propagation", Mesh::Enabled, measure);
}

async fn measure(case: Case) -> Result<()> {
    case.apply(&manifest::echo("echo", 1)).await?;
    case.apply(&manifest::client("client")).await?;
    case.available("echo").await?;
    case.available("client").await?;
    let name = format!("echo.{}.svc.cluster.local", case.namespace);
    case.apply(&format!(
        "apiVersion: conduit.io/v1alpha1
kind: ServiceProfile
metadata: {{name: {name}}}
spec: {{routes: [{{name: start, condition: {{pathRegex: /.*}}}}]}}
"
    ))
    .await?;
    let traffic = case.traffic("client", "http://echo", RATE).await?;
    let client = case.pod("client").await?.metadata.name.context("a pod without a name")?;
    let mut readings = Readings { case: case.clone(), client, gaps: Vec::new() };
    readings.wait_for("start").await?;

    let profiles: Api<ServiceProfile> = Api::namespaced(case.cluster.client.clone(), &case.namespace);
    let mut times = Vec::new();
    for change in 1..=CHANGES {
        let route = format!("change-{change}");
        let patch = json!({"spec": {"routes": [{"name": route, "condition": {"pathRegex": "/.*"}}]}});
        let sent = Instant::now();
        profiles.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        times.push(readings.wait_for(&route).await? - sent);
        if change % 10 == 0 {
            eprintln!("{change} of {CHANGES} changes");
        }
        tokio::time::sleep(PAUSE).await;
    }
    let count = traffic.end().await?;
    println!(
        "{CHANGES} changes at {RATE} requests/s, from the PATCH sent to the first request recorded under the new route:"
    );
    println!("{}", summary(&mut times));
    println!("read every {} (median {}): that is the resolution", longest(&readings.gaps), median(&mut readings.gaps));
    println!("{} of {} requests failed", count.failed, count.requests);
    Ok(())
}

/// Readings of a proxy's metrics, one after the other.
struct Readings {
    case: Case,
    /// The pod whose proxy is read.
    client: String,
    /// Time between readings.
    gaps: Vec<Duration>,
}

impl Readings {
    /// When a request under `route` was seen first.
    async fn wait_for(&mut self, route: &str) -> Result<Instant> {
        let begin = Instant::now();
        let labels = [("direction", "outbound"), ("rt_route", route)];
        let mut last = begin;
        while begin.elapsed() < PATIENCE {
            let scrape = self.case.scrape(&self.client).await?;
            let now = Instant::now();
            self.gaps.push(now - last);
            last = now;
            if scrape.sum("route_response_total", &labels) > 0.0 {
                return Ok(now);
            }
        }
        anyhow::bail!("no request was recorded under {route} within {PATIENCE:?}")
    }
}

fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |quantile: f64| millis(times[((times.len() as f64 * quantile).ceil() as usize).max(1) - 1]);
    format!("median {}, p90 {}, p99 {}, max {}", at(0.5), at(0.9), at(0.99), at(1.0))
}

fn longest(times: &[Duration]) -> String {
    millis(times.iter().copied().max().unwrap_or_default())
}

fn median(times: &mut [Duration]) -> String {
    times.sort_unstable();
    millis(times.get(times.len() / 2).copied().unwrap_or_default())
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_times_themselves() {
        let mut times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(summary(&mut times), "median 50.0 ms, p90 90.0 ms, p99 99.0 ms, max 100.0 ms");
    }
}
