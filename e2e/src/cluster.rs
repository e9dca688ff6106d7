//! The connection to the cluster, and applying YAML to it.

use anyhow::{Context, Result, bail};
use http_body_util::BodyExt;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, Patch, PatchParams, Request},
    client::Body,
    config::KubeConfigOptions,
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use serde::Deserialize;
use std::{future::Future, time::Duration};

/// A connection to the cluster that `KUBECONFIG` names.
#[derive(Clone)]
pub struct Cluster {
    /// The client of the API server.
    pub client: Client,
}

impl Cluster {
    /// Connects as the user that `KUBECONFIG` names.
    ///
    /// # Errors
    /// Where there is no such file, or no cluster behind it.
    pub async fn connect() -> Result<Self> {
        // A second test of this process has installed it already: that is no error.
        let _installed = kube_tls_provider();
        let config = Config::from_kubeconfig(&KubeConfigOptions::default())
            .await
            .context("KUBECONFIG must name a running cluster: `make cluster-up CLUSTER=test` makes one")?;
        let client = Client::try_from(config)?;
        client.apiserver_version().await.context("the cluster does not answer: `make cluster-up` repairs it")?;
        Ok(Self { client })
    }

    /// Applies every document of `yaml`, as `kubectl apply --server-side` does; objects that name no namespace go to
    /// `namespace`. Gives the warnings that a user would see.
    ///
    /// # Errors
    /// What the API server says, word for word.
    pub async fn apply(&self, namespace: &str, yaml: &str) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for document in documents(yaml)? {
            warnings.extend(self.apply_one(namespace, document).await?);
        }
        Ok(warnings)
    }

    async fn apply_one(&self, namespace: &str, document: serde_json::Value) -> Result<Vec<String>> {
        let object = DynamicObject::deserialize(&document).context("a document is no Kubernetes object")?;
        let name = object.metadata.name.clone().context("an object has no name")?;
        let api = self.api_of(&object, namespace).await?;
        let apply = PatchParams::apply("conduit-e2e").force().validation_strict();
        let request = Request::new(api.resource_url()).patch(&name, &apply, &Patch::Apply(&document))?;
        // Not through `Api`, which drops the headers that carry warnings.
        let response = self.client.send(request.map(Body::from)).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        if !head.status.is_success() {
            let status: serde_json::Value =
                serde_json::from_slice(&body).context("the API server's error is no JSON")?;
            bail!("{}", status["message"].as_str().unwrap_or("the API server gave no message"));
        }
        Ok(head
            .headers
            .get_all(http::header::WARNING)
            .iter()
            .filter_map(|value| warning(value.to_str().ok()?))
            .collect())
    }

    async fn api_of(&self, object: &DynamicObject, namespace: &str) -> Result<Api<DynamicObject>> {
        let types = object.types.as_ref().context("an object has no apiVersion and kind")?;
        let kind = GroupVersionKind::try_from(types)?;
        let (resource, capabilities): (ApiResource, _) = discovery::pinned_kind(&self.client, &kind).await?;
        Ok(match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
        })
    }
}

fn kube_tls_provider() -> Result<(), ()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(drop)
}

/// The text of a `Warning` header, which reads `299 - "text"` (RFC 7234, 5.5).
fn warning(header: &str) -> Option<String> {
    let quoted = header.split_once('"')?.1;
    Some(quoted.strip_suffix('"')?.replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// The documents of a YAML stream; empty ones are left out.
fn documents(yaml: &str) -> Result<Vec<serde_json::Value>> {
    let mut documents = Vec::new();
    for text in yaml.split("\n---\n") {
        let document: serde_json::Value = serde_saphyr::from_str(text).with_context(|| format!("not YAML:\n{text}"))?;
        if !document.is_null() {
            documents.push(document);
        }
    }
    Ok(documents)
}

/// Tries `check` every 200 ms until it succeeds.
///
/// # Errors
/// The last error of `check`, when `within` is over.
pub async fn eventually<T, F: Future<Output = Result<T>>>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> F,
) -> Result<T> {
    let end = tokio::time::Instant::now() + within;
    loop {
        match check().await {
            Ok(value) => return Ok(value),
            Err(error) if tokio::time::Instant::now() >= end => {
                bail!("not true within {within:?}: {what}: {error:#}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_documents_is_split_and_empty_ones_are_left_out() {
        let yaml = "---\nkind: A\n---\n\n---\nkind: B\n";
        let kinds: Vec<_> = documents(yaml).unwrap().iter().map(|d| d["kind"].as_str().unwrap().to_owned()).collect();
        assert_eq!(kinds, ["A", "B"]);
    }

    #[test]
    fn a_warning_is_what_stands_between_its_quotes() {
        assert_eq!(warning(r#"299 - "spec.a: \"x\" is unknown""#).as_deref(), Some(r#"spec.a: "x" is unknown"#));
        assert_eq!(warning("299 -"), None);
    }
}
