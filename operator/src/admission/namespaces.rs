//! What is known of the namespace that a pod is created in. Must not decide by it.

use crate::index::{self, Index};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, api::PartialObjectMeta};

/// Facts of namespaces: from the index, or from the API server where the index does not have them yet.
pub struct Namespaces {
    index: Index,
    api: Api<PartialObjectMeta<Namespace>>,
}

impl Namespaces {
    /// Looks in `index` first.
    pub fn new(index: Index, client: Client) -> Self {
        Self { index, api: Api::all(client) }
    }

    /// The namespace of this name.
    ///
    /// # Errors
    ///
    /// The index does not have it, and the API server does not give it.
    pub async fn get(&self, name: &str) -> Result<index::Namespace, kube::Error> {
        if let Some(namespace) = self.index.namespace(name) {
            return Ok(namespace);
        }
        let object = self.api.get(name).await?;
        Ok(index::Namespace::from_metadata(&object.metadata))
    }
}
