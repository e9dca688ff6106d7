//! What the status of pods and Deployments says.

use anyhow::{Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};

/// Whether every replica is updated, available, and no other is left.
///
/// # Errors
/// What is missing.
pub fn is_available(deployment: &Deployment) -> Result<()> {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    ensure!(status.observed_generation == deployment.metadata.generation, "its newest form is not observed yet");
    let (updated, available) = (status.updated_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    let all = status.replicas.unwrap_or(0);
    ensure!(
        updated == wanted && available == wanted && all == wanted,
        "{updated} of {wanted} updated, {available} available, {all} in all"
    );
    Ok(())
}

/// Phase and container states in one line.
pub fn state(pod: &Pod) -> String {
    let Some(status) = &pod.status else { return "no status".into() };
    let phase = status.phase.as_deref().unwrap_or("no phase");
    let statuses = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let containers: Vec<_> = statuses
        .map(|container| {
            let state = container.state.clone().unwrap_or_default();
            let word = match (state.running, state.waiting, state.terminated) {
                (Some(_), _, _) => "running".into(),
                (_, Some(waiting), _) => waiting.reason.unwrap_or_else(|| "waiting".into()),
                (_, _, Some(end)) => format!("ended with {}", end.exit_code),
                _ => "unknown".into(),
            };
            format!("{} {word}, ready {}, {} restarts", container.name, container.ready, container.restart_count)
        })
        .collect();
    format!("{phase}; {}", containers.join("; "))
}

/// Whether the pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How often each container was restarted, init containers first.
pub fn restarts(pod: &Pod) -> Vec<i32> {
    let status = pod.status.iter();
    let containers = status.flat_map(|status| status.init_container_statuses.iter().chain(&status.container_statuses));
    containers.flatten().map(|container| container.restart_count).collect()
}

/// Whether the pod has a proxy.
pub fn is_meshed(pod: &Pod) -> bool {
    let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    init.into_iter().flatten().any(|container| container.name == "conduit-proxy")
}
