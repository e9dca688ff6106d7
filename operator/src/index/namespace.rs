//! What is kept of a Namespace: its labels, and those annotations that are Conduit's own.

use super::ports::{AnnotatedPorts, PortSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// A Namespace, as far as injection and compilation ask about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Every label.
    pub labels: BTreeMap<String, String>,
    /// The annotations of Conduit's domain; others are not kept.
    pub annotations: BTreeMap<String, String>,
    /// Ports that are opaque in the whole namespace.
    pub opaque_ports: AnnotatedPorts,
}

impl Namespace {
    /// Keeps what is needed of a Namespace's metadata.
    pub fn from_metadata(metadata: &ObjectMeta) -> Self {
        let annotations = metadata.annotations.iter().flatten().filter(|(key, _)| ours(key));
        let annotations = annotations.map(|(key, value)| (key.clone(), value.clone())).collect();
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            opaque_ports: PortSet::opaque(Some(&annotations)),
            annotations,
        }
    }
}

fn ours(key: &str) -> bool {
    key.split_once('/').is_some_and(|(domain, _)| domain == "conduit.io" || domain.ends_with(".conduit.io"))
}
