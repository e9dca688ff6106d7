//! The installation of Conduit on the cluster, as its user handles it: by helm, and by what its pods say.

use crate::{
    cluster::{Cluster, eventually},
    metrics::Admin,
    tool::{self, CHART},
    workload,
};
use anyhow::{Result, ensure};
use conduit_crds::{ServiceProfile, ServiceProfileSpec};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::time::Duration;

/// The namespace and the name of the release.
pub const SYSTEM: &str = "conduit";
/// The Deployment of the control plane.
pub const OPERATOR: &str = "conduit-operator";

/// The port of the operator's metrics.
const METRICS_PORT: u16 = 9990;

/// Installs Conduit, or upgrades it to these values, and waits until its operator is ready.
///
/// # Errors
/// What helm says, or what the operator lacks.
pub async fn install(cluster: &Cluster, values: &[&str]) -> Result<()> {
    let mut arguments = vec!["upgrade", "--install", SYSTEM, CHART, "--namespace", SYSTEM, "--create-namespace"];
    // What a case has set by hand, such as the number of operators, is the chart's again.
    arguments.push("--force-conflicts");
    for value in values {
        arguments.extend(["--set", value]);
    }
    tool::helm(&arguments).await?;
    ready(cluster).await
}

/// Removes Conduit.
///
/// # Errors
/// What helm says.
pub async fn uninstall() -> Result<()> {
    tool::helm(&["uninstall", SYSTEM, "--namespace", SYSTEM, "--wait"]).await?;
    Ok(())
}

/// Waits until every replica of the operator is ready, no other is left, and the API server reaches its webhooks: the way
/// there is kube-proxy's, which follows a moment later.
///
/// # Errors
/// What is missing, after 90 seconds.
pub async fn ready(cluster: &Cluster) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), SYSTEM);
    eventually("the operator is ready", Duration::from_secs(90), || async {
        workload::is_available(&api.get(OPERATOR).await?)
    })
    .await?;
    let profiles: Api<ServiceProfile> = Api::namespaced(cluster.client.clone(), SYSTEM);
    let harmless =
        ServiceProfile::new(&format!("{OPERATOR}.{SYSTEM}.svc.cluster.local"), ServiceProfileSpec::default());
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the API server reaches the webhooks", Duration::from_secs(20), || async {
        profiles.create(&dry_run, &harmless).await?;
        Ok(())
    })
    .await
}

/// The operator's pods.
///
/// # Errors
/// Where there is none.
pub async fn operators(cluster: &Cluster) -> Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), SYSTEM);
    let selector = format!("app.kubernetes.io/name={OPERATOR}");
    let pods = api.list(&ListParams::default().labels(&selector)).await?.items;
    ensure!(!pods.is_empty(), "no pod has the label {selector}");
    Ok(pods)
}

/// The sum, over all operators, of a counter of theirs.
///
/// # Errors
/// Where one does not answer.
pub async fn counter(cluster: &Cluster, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), SYSTEM);
    let mut sum = 0.0;
    for pod in operators(cluster).await? {
        sum += Admin::connect_to(&api, &pod.name_any(), METRICS_PORT).await?.scrape().await?.sum(name, labels);
    }
    Ok(sum)
}

/// Sets how many operators there are, and waits until Kubernetes has as many.
///
/// # Errors
/// What is missing.
pub async fn scale(cluster: &Cluster, replicas: u32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), SYSTEM);
    let patch = json!({"spec": {"replicas": replicas}});
    deployments.patch(OPERATOR, &PatchParams::default(), &Patch::Merge(patch)).await?;
    if replicas > 0 {
        return ready(cluster).await;
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), SYSTEM);
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={OPERATOR}"));
    eventually("no operator is left", Duration::from_secs(30), || async {
        let left = pods.list(&selector).await?.items.len();
        ensure!(left == 0, "{left} are");
        Ok(())
    })
    .await
}

/// Kills every operator at once, as a power cut would, and waits until Kubernetes has them gone.
///
/// # Errors
/// Where there is none, or one stays.
pub async fn kill_operators(cluster: &Cluster) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), SYSTEM);
    let killed = operators(cluster).await?;
    for pod in &killed {
        api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    }
    eventually("the killed operators are gone", Duration::from_secs(30), || async {
        for pod in &killed {
            let found = api.get_opt(&pod.name_any()).await?;
            ensure!(found.is_none_or(|found| found.uid() != pod.uid()), "{} is still there", pod.name_any());
        }
        Ok(())
    })
    .await
}
