//! What the status of a ServiceProfile or a TrafficPolicy says.

use crate::{case::Case, cluster::eventually};
use anyhow::{Context, Result, ensure};
use conduit_crds::{ServiceProfile, TrafficPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use std::time::Duration;

/// How long the status may take to follow; it is written every two seconds at most.
const PATIENCE: Duration = Duration::from_secs(20);

impl Case {
    /// Waits until the condition of this type of a ServiceProfile is about its newest generation and has this status.
    ///
    /// # Errors
    /// What it says instead.
    pub async fn profile_condition(&self, name: &str, kind: &str, status: &str) -> Result<Condition> {
        let api: Api<ServiceProfile> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        eventually(&format!("{kind}={status} of {name}"), PATIENCE, || async {
            let profile = api.get(name).await?;
            let conditions = profile.status.map(|status| status.conditions).unwrap_or_default();
            expect(conditions, kind, status, profile.metadata.generation)
        })
        .await
    }

    /// Waits until a ServiceProfile is programmed in `proxies` of as many.
    ///
    /// # Errors
    /// What its status says instead.
    pub async fn profile_programmed(&self, name: &str, proxies: u32) -> Result<()> {
        let wanted = format!("{proxies}/{proxies} proxies");
        let api: Api<ServiceProfile> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        eventually(&format!("{name} is in {wanted}"), PATIENCE, || async {
            let profile = api.get(name).await?;
            let conditions = profile.status.map(|status| status.conditions).unwrap_or_default();
            let condition = expect(conditions, "Programmed", "True", profile.metadata.generation)?;
            ensure!(condition.message == wanted, "it is in {:?}", condition.message);
            Ok(())
        })
        .await
    }

    /// Waits until the condition of this type of a TrafficPolicy, for its first target, is about its newest generation and
    /// has this status.
    ///
    /// # Errors
    /// What it says instead.
    pub async fn policy_condition(&self, name: &str, kind: &str, status: &str) -> Result<Condition> {
        let api: Api<TrafficPolicy> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        eventually(&format!("{kind}={status} of {name}"), PATIENCE, || async {
            let policy = api.get(name).await?;
            let ancestor = policy.status.and_then(|status| status.ancestors.into_iter().next());
            expect(ancestor.map(|a| a.conditions).unwrap_or_default(), kind, status, policy.metadata.generation)
        })
        .await
    }
}

fn expect(conditions: Vec<Condition>, kind: &str, status: &str, generation: Option<i64>) -> Result<Condition> {
    let condition = conditions.into_iter().find(|c| c.type_ == kind).with_context(|| format!("no condition {kind}"))?;
    ensure!(
        condition.observed_generation == generation,
        "it is about generation {:?}, not {generation:?}",
        condition.observed_generation
    );
    ensure!(condition.status == status, "it is {} ({}: {})", condition.status, condition.reason, condition.message);
    Ok(condition)
}
