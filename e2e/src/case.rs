//! A case: a namespace of its own, what went wrong in it if something did, and its end.

use crate::{
    cluster::{Cluster, eventually},
    workload,
};
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Namespace, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::{future::Future, time::Duration};

/// No case may take longer.
const LIMIT: Duration = Duration::from_secs(175);

/// Whether a case's namespace is labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mesh {
    /// `conduit.io/inject: enabled`.
    Enabled,
    /// No label.
    Absent,
}

/// A running case.
#[derive(Clone)]
pub struct Case {
    /// The cluster.
    pub cluster: Cluster,
    /// The namespace that the case has to itself.
    pub namespace: String,
}

impl Case {
    /// Runs `body` in the namespace `e2e-<name>`, made for it and deleted after it. If it fails, prints what the
    /// namespace's pods and events say.
    ///
    /// # Panics
    /// Where the case fails: this is the body of a test.
    pub fn run<F: Future<Output = Result<()>>>(name: &str, mesh: Mesh, body: impl FnOnce(Case) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let outcome = runtime.block_on(async {
            let case = Self::begin(name, mesh).await?;
            let outcome = match tokio::time::timeout(LIMIT, body(case.clone())).await {
                Ok(outcome) => outcome,
                Err(_) => Err(anyhow::anyhow!("the case took longer than {LIMIT:?}")),
            };
            if outcome.is_err() {
                case.explain().await;
            }
            case.end().await?;
            outcome
        });
        if let Err(error) = outcome {
            panic!("case {name}: {error:#}");
        }
    }

    async fn begin(name: &str, mesh: Mesh) -> Result<Self> {
        let cluster = Cluster::connect().await?;
        let namespace = format!("e2e-{name}");
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        // One of an earlier run that was cut off.
        if namespaces.get_opt(&namespace).await?.is_some() {
            namespaces.delete(&namespace, &DeleteParams::default()).await?;
            eventually("the namespace of an earlier run is gone", Duration::from_secs(60), || async {
                ensure!(namespaces.get_opt(&namespace).await?.is_none(), "{namespace} is still there");
                Ok(())
            })
            .await?;
        }
        let labels = match mesh {
            Mesh::Enabled => json!({"conduit.io/inject": "enabled"}),
            Mesh::Absent => json!({}),
        };
        let object = serde_json::from_value(json!({"metadata": {"name": namespace, "labels": labels}}))?;
        namespaces.create(&PostParams::default(), &object).await?;
        Ok(Self { cluster, namespace })
    }

    async fn end(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.context("deleting the namespace")?;
        Ok(())
    }

    /// Applies YAML to the case's namespace; gives the warnings that a user would see.
    ///
    /// # Errors
    /// What the API server says, word for word.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<String>> {
        self.cluster.apply(&self.namespace, yaml).await
    }

    /// What the API server says when it refuses this YAML.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn refused(&self, yaml: &str) -> Result<String> {
        match self.apply(yaml).await {
            Ok(_) => bail!("this was not refused:\n{yaml}"),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    /// The pods of the case's namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }

    /// The one pod with the label `app: <app>` that is not on its way out.
    ///
    /// # Errors
    /// Where there is none, or more than one.
    pub async fn pod(&self, app: &str) -> Result<Pod> {
        let mut pods = self.pods_of(app).await?;
        ensure!(pods.len() == 1, "{} pods have the label app={app}", pods.len());
        Ok(pods.remove(0))
    }

    /// All pods with the label `app: <app>` that are not on their way out.
    ///
    /// # Errors
    /// Where the API server does not answer.
    pub async fn pods_of(&self, app: &str) -> Result<Vec<Pod>> {
        let pods = self.pods().list(&ListParams::default().labels(&format!("app={app}"))).await?;
        Ok(pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// Waits until every replica of a Deployment is updated and available.
    ///
    /// # Errors
    /// What is missing, after 90 seconds.
    pub async fn available(&self, deployment: &str) -> Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        eventually(&format!("{deployment} is available"), Duration::from_secs(90), || async {
            workload::is_available(&api.get(deployment).await?)
        })
        .await
    }

    /// Waits until the one pod with the label `app: <app>` is ready.
    ///
    /// # Errors
    /// What it is instead, after 60 seconds.
    pub async fn pod_ready(&self, app: &str) -> Result<Pod> {
        eventually(&format!("{app} is ready"), Duration::from_secs(60), || async {
            let pod = self.pod(app).await?;
            ensure!(workload::is_ready(&pod), "{}", workload::state(&pod));
            Ok(pod)
        })
        .await
    }

    /// Restarts a Deployment as `kubectl rollout restart` does.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn restart(&self, deployment: &str, stamp: &str) -> Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {"e2e/restarted": stamp}}}}});
        api.patch(deployment, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Prints what a person would look at first.
    async fn explain(&self) {
        let Ok(pods) = self.pods().list(&ListParams::default()).await else {
            return eprintln!("the API server does not answer");
        };
        for pod in &pods.items {
            eprintln!("--- pod {}: {}", pod.name_any(), workload::state(pod));
            let spec = pod.spec.as_ref();
            let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
            for container in init.chain(spec.into_iter().flat_map(|spec| &spec.containers)) {
                let tail =
                    LogParams { container: Some(container.name.clone()), tail_lines: Some(15), ..Default::default() };
                match self.pods().logs(&pod.name_any(), &tail).await {
                    Ok(log) => eprintln!("    {}:\n{}", container.name, log.trim_end()),
                    Err(error) => eprintln!("    {}: no log: {error}", container.name),
                }
            }
        }
        let events: Api<Event> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        for event in events.list(&ListParams::default()).await.into_iter().flatten() {
            if event.type_.as_deref() != Some("Normal") {
                let about = event.involved_object.name.unwrap_or_default();
                eprintln!("--- event {about}: {}", event.message.unwrap_or_default());
            }
        }
    }
}
