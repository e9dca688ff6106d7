//! No request is lost while the pods behind a Service change under load, where they finish what they accepted.

use anyhow::{Context, Result, ensure};
use conduit_e2e::{Case, Mesh, manifest};
use k8s_openapi::api::{apps::v1::Deployment, discovery::v1::EndpointSlice};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

#[test]
fn rollout() {
    Case::run("rollout", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 3)).await?;
        case.apply(&manifest::client("client")).await?;
        case.available("echo").await?;
        case.available("client").await?;
        let traffic = case.traffic("client", "http://echo", 200).await?;
        for stamp in ["one", "two"] {
            case.restart("echo", stamp).await?;
            case.available("echo").await?;
        }
        traffic.end().await?.none_failed()
    });
}

#[test]
fn no_request_is_lost_when_a_deployment_grows_and_shrinks() {
    Case::run("scaling", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        case.apply(&manifest::client("client")).await?;
        case.available("echo").await?;
        case.available("client").await?;
        let deployments: Api<Deployment> = Api::namespaced(case.cluster.client.clone(), &case.namespace);
        let traffic = case.traffic("client", "http://echo", 50).await?;
        for replicas in [4, 1, 3, 2] {
            let patch = json!({"spec": {"replicas": replicas}});
            deployments.patch("echo", &PatchParams::default(), &Patch::Merge(patch)).await?;
            case.available("echo").await?;
        }
        traffic.end().await?.none_failed()
    });
}

/// EndpointSlices beside the one that Kubernetes keeps, and how often each is changed.
const SLICES: [&str; 3] = ["more-1", "more-2", "more-3"];
const CHANGES: usize = 200;

#[test]
fn no_request_is_lost_while_endpoints_come_and_go_as_fast_as_the_api_server_takes_it() {
    Case::run("churn", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        // Not behind the Service `echo`, but by what the slices say.
        case.apply(&manifest::echo("more", 3)).await?;
        case.apply(&manifest::client("client")).await?;
        for app in ["echo", "more", "client"] {
            case.available(app).await?;
        }
        let endpoints = endpoints(&case).await?;
        let traffic = case.traffic("client", "http://echo", 50).await?;
        let changes = SLICES.iter().enumerate().map(|(offset, slice)| changed(&case, slice, &endpoints, offset));
        futures::future::try_join_all(changes).await?;
        traffic.end().await?.none_failed_at_any_rate()?;
        for app in ["echo", "more"] {
            let mut requests = 0.0;
            for pod in case.pods_of(app).await? {
                let pod = pod.metadata.name.context("a pod without a name")?;
                requests += case.scrape(&pod).await?.sum("request_total", &[("target_port", "8080")]);
            }
            ensure!(requests > 0.0, "{app} was never called: what changed was not believed");
        }
        Ok(())
    });
}

/// The pods of `more`, as they stand in a slice.
async fn endpoints(case: &Case) -> Result<Vec<Value>> {
    let pods = case.pods_of("more").await?;
    let endpoint = |pod: &k8s_openapi::api::core::v1::Pod| {
        let (name, namespace) = (&pod.metadata.name, &pod.metadata.namespace);
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
        json!({"addresses": [address], "conditions": {"ready": true},
               "targetRef": {"kind": "Pod", "name": name, "namespace": namespace}})
    };
    Ok(pods.iter().map(endpoint).collect())
}

/// Changes what a slice of the Service `echo` holds, again and again: one of the endpoints, each in turn, and none.
async fn changed(case: &Case, slice: &str, endpoints: &[Value], offset: usize) -> Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(case.cluster.client.clone(), &case.namespace);
    let apply = PatchParams::apply("conduit-e2e").force();
    for change in offset..offset + CHANGES {
        let chosen: Vec<_> = endpoints.get(change % (endpoints.len() + 1)).into_iter().collect();
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": slice, "labels": {"kubernetes.io/service-name": "echo"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "appProtocol": "http"}],
            "endpoints": chosen,
        });
        slices.patch(slice, &apply, &Patch::Apply(object)).await?;
    }
    Ok(())
}
