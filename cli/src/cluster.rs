//! Which cluster, and the pods in it. Its errors say what a person can do about them.

use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use thiserror::Error;

use crate::workload::Member;

/// Pods that are asked for at a time.
const PAGE: u32 = 500;

/// Which cluster to talk to; by default the one that kubectl talks to.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// The kubeconfig file; by default as in KUBECONFIG, else ~/.kube/config, else the service account of the pod.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; by default its current one.
    #[arg(long, global = true)]
    context: Option<String>,
}

/// A cluster that can be asked.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// The namespace of the context.
    pub(crate) namespace: String,
    address: String,
}

/// Why the cluster cannot be asked.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("no cluster is configured: {0}; set KUBECONFIG, or name a file with --kubeconfig")]
    Configuration(String),
    #[error("the cluster at {address} does not answer: {cause}")]
    Unreachable { address: String, cause: String },
    #[error("not allowed to {what}: {message}")]
    Forbidden { what: String, message: String },
    #[error("the credentials of the kubeconfig are not accepted by {address}: {message}")]
    Unauthorized { address: String, message: String },
    #[error("the cluster at {address} refused to {what}: {message}")]
    Refused { address: String, what: String, message: String },
}

impl Cluster {
    /// Reads the configuration; nothing is asked yet.
    ///
    /// # Errors
    /// There is no configuration, or it is not sound.
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, Error> {
        let configuration = |error: &dyn std::error::Error| Error::Configuration(causes(error));
        let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
        let config = match (&settings.kubeconfig, &settings.context) {
            (Some(path), _) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|error| configuration(&error))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| configuration(&error))?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|error| configuration(&error))?,
            (None, None) => Config::infer().await.map_err(|error| configuration(&error))?,
        };
        let (namespace, address) = (config.default_namespace.clone(), config.cluster_url.to_string());
        let client = Client::try_from(config).map_err(|error| configuration(&error))?;
        Ok(Self { client, namespace, address })
    }

    /// The pods of a namespace, or of all of them, that live.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub(crate) async fn members(&self, namespace: Option<&str>) -> Result<Vec<Member>, Error> {
        let (pods, what) = match namespace {
            Some(namespace) => {
                (Api::<Pod>::namespaced(self.client.clone(), namespace), format!("list pods in namespace {namespace}"))
            }
            None => (Api::all(self.client.clone()), "list pods in all namespaces".to_owned()),
        };
        let mut members = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed = pods.list(&page).await.map_err(|error| self.explained(error, &what))?;
            members.extend(listed.items.iter().filter_map(Member::of));
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(members),
            }
        }
    }

    fn explained(&self, error: kube::Error, what: &str) -> Error {
        let (address, what) = (self.address.clone(), what.to_owned());
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Error::Unauthorized { address, message: status.message.clone() },
                403 => Error::Forbidden { what, message: status.message.clone() },
                _ => Error::Refused { address, what, message: status.message.clone() },
            },
            other => Error::Unreachable { address, cause: causes(&other) },
        }
    }
}

/// An error and its causes in one line, each said once.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// A cluster that answers each path and query as told.
    fn cluster(answer: impl Fn(&str) -> (StatusCode, Value) + Clone + Send + 'static) -> Cluster {
        let service = tower::service_fn(move |request: Request<Body>| {
            let (status, body) = answer(request.uri().path_and_query().map_or("", |path| path.as_str()));
            let mut response = Response::new(Body::from(body.to_string().into_bytes()));
            *response.status_mut() = status;
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        Cluster { client: Client::new(service, "default"), namespace: "default".into(), address: "https://c".into() }
    }

    fn page(pod: &str, next: &str) -> (StatusCode, Value) {
        let pod = json!({"metadata": {"name": pod, "namespace": "shop"}});
        let list = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"continue": next}, "items": [pod]});
        (StatusCode::OK, list)
    }

    fn refusal(code: u16) -> (StatusCode, Value) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "because", "reason": "x", "code": code});
        (StatusCode::from_u16(code).unwrap(), status)
    }

    #[tokio::test]
    async fn every_page_of_pods_is_read() {
        let cluster = cluster(|path| {
            assert!(path.starts_with("/api/v1/namespaces/shop/pods?"), "{path}");
            if path.contains("continue=more") { page("b", "") } else { page("a", "more") }
        });
        let pods: Vec<_> = cluster.members(Some("shop")).await.unwrap().into_iter().map(|member| member.pod).collect();
        assert_eq!(pods, ["a", "b"]);
    }

    #[tokio::test]
    async fn a_refusal_says_what_was_tried() {
        let said =
            async |code, namespace| cluster(move |_| refusal(code)).members(namespace).await.unwrap_err().to_string();
        assert_eq!(said(403, Some("shop")).await, "not allowed to list pods in namespace shop: because");
        assert_eq!(said(403, None).await, "not allowed to list pods in all namespaces: because");
        let unauthorized = "the credentials of the kubeconfig are not accepted by https://c: because";
        assert_eq!(said(401, None).await, unauthorized);
        assert_eq!(said(500, None).await, "the cluster at https://c refused to list pods in all namespaces: because");
    }
}
