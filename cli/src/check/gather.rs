//! What the checks are made on, asked of the cluster all at once, each within a deadline. It decides nothing.
//!
//! No key is read: of the Secret only that it is there, and how long certificates live from the operator's metrics.

mod installation;
mod namespace;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::future;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::before::{self, Present, RIGHTS, Right, Scope, Version};
use super::finding::{Fact, Unknown};
use super::installed::{self, Operator};
use super::proxies;
use crate::cluster::causes;
use crate::scrape;
use crate::workload::Member;
use namespace::pod_facts;

/// The Deployment, and what else has its name.
const OPERATOR: &str = "conduit-operator";
const INJECTOR: &str = "conduit-injector";
const VALIDATOR: &str = "conduit-validator";
const VERSION_LABEL: &str = "app.kubernetes.io/version";
/// Helm's mark of the release that owns an object.
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";
/// What takes longer is not known.
const DEADLINE: Duration = Duration::from_secs(15);

/// Asks the cluster.
pub(crate) struct Gatherer {
    client: Client,
    /// Where Conduit is.
    conduit: String,
}

impl Gatherer {
    pub(crate) fn new(client: Client, conduit: String) -> Self {
        Self { client, conduit }
    }

    /// Before installation.
    pub(crate) async fn before(&self) -> before::Facts {
        let (version, missing_rights, present) = futures::join!(self.version(), self.missing_rights(), self.present());
        before::Facts { version, missing_rights, present, namespace: self.conduit.clone() }
    }

    /// Of an installation.
    pub(crate) async fn installed(&self) -> installed::Facts {
        let operator = async {
            let operator = self.operator().await;
            let secret = self.secret(&operator).await;
            (operator, secret)
        };
        let (version, (operator, secret), webhooks, admission, definitions, expirations, bundles, clocks) = futures::join!(
            self.version(),
            operator,
            self.webhooks(),
            self.admission(),
            self.definitions(),
            self.expirations(),
            self.bundles(),
            self.clocks()
        );
        let now = Timestamp::now();
        installed::Facts {
            version,
            operator,
            webhooks,
            admission,
            definitions,
            secret,
            expirations,
            bundles,
            clocks,
            now,
        }
    }

    /// Of a namespace's proxies.
    pub(crate) async fn proxies(&self, namespace: &str) -> proxies::Facts {
        let own = async {
            let listed = self.list::<Pod>(namespace, "pods");
            let (pods, opted_in) = futures::join!(listed, self.opted_in(namespace));
            let members: Vec<_> = pods.iter().flatten().filter_map(Member::of).collect();
            let ((identities, unanswered), streams) =
                futures::join!(scrape::identities(&self.client, &members), self.streams(&members));
            let silent = unanswered.into_iter().map(|((_, pod), failure)| (pod, failure.to_string()));
            let pods = pods.and_then(|pods| {
                let opted_in = opted_in?;
                Ok(pods.iter().filter(|pod| Member::of(pod).is_some()).map(|pod| pod_facts(pod, opted_in)).collect())
            });
            (pods, identities, silent.collect::<BTreeMap<_, _>>(), streams)
        };
        let (own, operator, bundle, objects) =
            futures::join!(own, self.operator(), self.bundle(namespace), self.objects(namespace));
        let (pods, identities, mut silent, (streams, failures)) = own;
        silent.extend(failures);
        let version = operator.map(|operator| operator.and_then(|operator| operator.version));
        proxies::Facts { pods, version, identities, streams, silent, bundle, objects, now: Timestamp::now() }
    }

    async fn version(&self) -> Fact<Version> {
        let info = known("read the version of the API server", self.client.apiserver_version()).await?;
        // Some say "30+".
        let number = |text: &str| text.trim_end_matches('+').parse().ok();
        match (number(&info.major), number(&info.minor)) {
            (Some(major), Some(minor)) => Ok(Version { major, minor }),
            _ => Err(Unknown::Failed(format!("the API server gives no version: {}.{}", info.major, info.minor))),
        }
    }

    async fn missing_rights(&self) -> Fact<Vec<Right>> {
        let reviews = Api::<SelfSubjectAccessReview>::all(self.client.clone());
        let asked = RIGHTS.iter().map(|right| {
            let attributes = ResourceAttributes {
                verb: Some("create".into()),
                resource: Some(right.resource.into()),
                group: Some(right.group.into()),
                namespace: (right.scope == Scope::Namespace).then(|| self.conduit.clone()),
                ..ResourceAttributes::default()
            };
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
                ..Default::default()
            };
            let reviews = reviews.clone();
            async move {
                let params = PostParams::default();
                let answer = known("create selfsubjectaccessreviews", reviews.create(&params, &review)).await?;
                Ok((!answer.status.is_some_and(|status| status.allowed)).then(|| right.clone()))
            }
        });
        let missing = future::try_join_all(asked).await?;
        Ok(missing.into_iter().flatten().collect())
    }

    async fn present(&self) -> Fact<Vec<Present>> {
        let (role, binding, injector, validator, definitions) = futures::join!(
            self.metadata::<ClusterRole>("ClusterRole", OPERATOR),
            self.metadata::<ClusterRoleBinding>("ClusterRoleBinding", OPERATOR),
            self.metadata::<MutatingWebhookConfiguration>("MutatingWebhookConfiguration", INJECTOR),
            self.metadata::<ValidatingWebhookConfiguration>("ValidatingWebhookConfiguration", VALIDATOR),
            future::try_join_all(conduit_crds::definitions().into_iter().map(|definition| async move {
                self.metadata::<CustomResourceDefinition>("CustomResourceDefinition", &definition.name_any()).await
            })),
        );
        Ok([role?, binding?, injector?, validator?].into_iter().chain(definitions?).flatten().collect())
    }

    /// An object of the cluster, without what is in it.
    async fn metadata<K>(&self, kind: &str, name: &str) -> Fact<Option<Present>>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api = Api::<K>::all(self.client.clone());
        let found = known(&format!("get {kind} {name}"), api.get_metadata_opt(name)).await?;
        Ok(found.map(|found| Present {
            object: format!("{kind} {name}"),
            release_namespace: found.annotations().get(RELEASE_NAMESPACE).cloned(),
        }))
    }

    async fn operator(&self) -> Fact<Option<Operator>> {
        let api = Api::<Deployment>::namespaced(self.client.clone(), &self.conduit);
        let what = format!("get deployments in namespace {}", self.conduit);
        let deployment = known(&what, api.get_opt(OPERATOR)).await?;
        Ok(deployment.map(|deployment| {
            let version = deployment.labels().get(VERSION_LABEL).cloned();
            let spec = deployment.spec.unwrap_or_default();
            let containers = spec.template.spec.map(|pod| pod.containers).unwrap_or_default();
            Operator {
                version,
                wanted: spec.replicas.unwrap_or(1),
                ready: deployment.status.and_then(|status| status.ready_replicas).unwrap_or(0),
                arguments: containers.into_iter().filter_map(|container| container.args).flatten().collect(),
            }
        }))
    }
}

/// Waits for an answer of the API server, for a while.
async fn known<T>(what: &str, answer: impl Future<Output = kube::Result<T>>) -> Fact<T> {
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(Ok(known)) => Ok(known),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Unknown::Forbidden(what.to_owned())),
        Ok(Err(kube::Error::Api(status))) => Err(Unknown::Failed(format!("cannot {what}: {}", status.message))),
        Ok(Err(error)) => Err(Unknown::Failed(format!("cannot {what}: {}", causes(&error)))),
        Err(_) => Err(late(what)),
    }
}

fn late(what: &str) -> Unknown {
    Unknown::Failed(format!("cannot {what}: no answer within {} s", DEADLINE.as_secs()))
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
