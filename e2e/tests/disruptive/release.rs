//! Upgrading and removing Conduit under running pods.

use crate::pair;
use anyhow::{Result, ensure};
use conduit_e2e::{Case, Mesh, installation, manifest, tool, workload};
use k8s_openapi::{
    api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, ResourceExt, api::ListParams};
use std::time::Duration;

#[test]
fn an_upgrade_leaves_meshed_pods_running() {
    Case::run("upgrade", Mesh::Enabled, async |case| {
        pair(&case).await?;
        let before = uids(&case).await?;
        let traffic = case.traffic("client", "http://echo", 50).await?;
        let outcome = async {
            // Both a value of the operator and one of the proxies to come: the operator is rolled, the pods are not.
            installation::install(&case.cluster, &["proxy.logLevel=debug"]).await?;
            ensure!(uids(&case).await? == before, "the upgrade replaced or restarted meshed pods");
            case.apply(&manifest::client("later")).await?;
            case.available("later").await?;
            ensure!(workload::is_meshed(&case.pod("later").await?), "a pod created after the upgrade is not meshed");
            traffic.end().await?.none_failed()
        }
        .await;
        installation::install(&case.cluster, &[]).await?;
        outcome
    });
}

#[test]
fn uninstall() {
    Case::run("uninstall", Mesh::Enabled, async |case| {
        pair(&case).await?;
        let before = uids(&case).await?;
        let traffic = case.traffic("client", "http://echo", 50).await?;
        installation::uninstall().await?;
        let outcome = async {
            ensure!(webhooks(&case).await?.is_empty(), "webhooks are left: {:?}", webhooks(&case).await?);
            // What users wrote is kept with its definitions.
            let definitions: Api<CustomResourceDefinition> = Api::all(case.cluster.client.clone());
            for name in ["serviceprofiles.conduit.io", "trafficpolicies.conduit.io"] {
                ensure!(definitions.get_opt(name).await?.is_some(), "{name} is gone");
            }
            case.apply(&manifest::client("later")).await?;
            case.available("later").await?;
            ensure!(!workload::is_meshed(&case.pod("later").await?), "a pod created after the removal is meshed");
            // Old to old, and new to old.
            case.check("client", "grpc", "http://echo:82").await?;
            case.check("later", "http1", "http://echo").await?;
            ensure!(uids(&case).await? == before, "the removal replaced or restarted meshed pods");
            traffic.end().await?.none_failed()
        }
        .await;
        installation::install(&case.cluster, &[]).await?;
        outcome?;
        // A new installation has the root of the old one: whoever trusted each other still does.
        case.apply(&crate::profile(&case, "again")).await?;
        let traffic = case.traffic("client", "http://echo", 20).await?;
        crate::route_grows_within(&case, "again", Duration::from_secs(60)).await?;
        traffic.end().await?.none_failed()
    });
}

#[test]
fn helm_test() {
    Case::run("helm-test", Mesh::Absent, async |_| {
        tool::helm(&["test", installation::SYSTEM, "--namespace", installation::SYSTEM]).await?;
        Ok(())
    });
}

/// The pods of server and client by UID, with their restarts.
async fn uids(case: &Case) -> Result<Vec<(String, Vec<i32>)>> {
    let mut all = Vec::new();
    for app in ["echo", "client"] {
        all.extend(case.pods_of(app).await?.iter().map(|pod| (pod.uid().unwrap_or_default(), workload::restarts(pod))));
    }
    all.sort();
    Ok(all)
}

/// Names of the webhook configurations that are Conduit's.
async fn webhooks(case: &Case) -> Result<Vec<String>> {
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(case.cluster.client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(case.cluster.client.clone());
    let all = ListParams::default();
    let mut names: Vec<_> = mutating.list(&all).await?.iter().map(ResourceExt::name_any).collect();
    names.extend(validating.list(&all).await?.iter().map(ResourceExt::name_any));
    names.retain(|name| name.contains("conduit"));
    Ok(names)
}
