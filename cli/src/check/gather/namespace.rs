//! The facts of a namespace: its pods, what their proxies say, what users wrote there. They decide nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use conduit_crds::{ServiceProfile, TrafficPolicy};
use conduit_model::settings::ADMIN_PORT;
use conduit_operator::inject::{
    self, DISABLED, ENABLED, INJECT_LABEL, PROXY_CONTAINER, TRUST_BUNDLE, TRUST_BUNDLE_KEY, VERSION_ANNOTATION,
};
use futures::{StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::super::finding::{Fact, Unknown};
use super::super::proxies::{self, Object, Stream};
use super::{Gatherer, known};
use crate::exposition::{Exposition, Labels};
use crate::forward;
use crate::scrape::AT_ONCE;
use crate::workload::Member;

pub(super) const CONNECTED: &str = "conduit_discovery_connected";
pub(super) const AGE: &str = "conduit_config_age_seconds";

impl Gatherer {
    pub(super) async fn bundle(&self, namespace: &str) -> Fact<Option<String>> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let what = format!("get configmaps in namespace {namespace}");
        let config_map = known(&what, api.get_opt(TRUST_BUNDLE)).await?;
        Ok(config_map.and_then(|map| map.data?.remove(TRUST_BUNDLE_KEY)))
    }

    pub(super) async fn opted_in(&self, namespace: &str) -> Fact<bool> {
        let api = Api::<Namespace>::all(self.client.clone());
        let found = known(&format!("get namespaces/{namespace}"), api.get_metadata_opt(namespace)).await?;
        let found = found.ok_or_else(|| Unknown::Failed(format!("there is no namespace {namespace}")))?;
        Ok(found.labels().get(INJECT_LABEL).is_some_and(|value| value == ENABLED))
    }

    /// What proxies say of the operator's stream, and those that say nothing.
    pub(super) async fn streams(&self, members: &[Member]) -> (Vec<(String, Stream)>, BTreeMap<String, String>) {
        let running = members.iter().filter(|member| member.meshed && member.running);
        let asked = running.map(|member| async move {
            let text = forward::get(&self.client, &member.namespace, &member.pod, ADMIN_PORT, "/metrics").await;
            let stream = text.and_then(|text| Ok(stream_of(&Exposition::parse(&text, &[CONNECTED, AGE])?)));
            (member.pod.clone(), stream)
        });
        let answers: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        let (mut streams, mut silent) = (Vec::new(), BTreeMap::new());
        for (pod, answer) in answers {
            match answer {
                Ok(stream) => streams.push((pod, stream)),
                Err(failure) => drop(silent.insert(pod, failure.to_string())),
            }
        }
        (streams, silent)
    }

    pub(super) async fn objects(&self, namespace: &str) -> Fact<Vec<Object>> {
        let (profiles, policies) = futures::join!(
            self.list::<ServiceProfile>(namespace, "serviceprofiles.conduit.io"),
            self.list::<TrafficPolicy>(namespace, "trafficpolicies.conduit.io"),
        );
        let profiles = profiles?.into_iter().map(|profile| {
            let conditions = profile.status.iter().flat_map(|status| &status.conditions);
            Object { name: format!("ServiceProfile {}", profile.name_any()), untrue: untrue(conditions) }
        });
        let policies = policies?.into_iter().map(|policy| {
            let ancestors = policy.status.iter().flat_map(|status| &status.ancestors);
            let conditions = ancestors.flat_map(|ancestor| &ancestor.conditions);
            Object { name: format!("TrafficPolicy {}", policy.name_any()), untrue: untrue(conditions) }
        });
        Ok(profiles.chain(policies).collect())
    }

    /// The objects of a kind in a namespace; `resource` is its plural.
    pub(super) async fn list<K>(&self, namespace: &str, resource: &str) -> Fact<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        Ok(known(&format!("list {resource} in namespace {namespace}"), api.list(&ListParams::default())).await?.items)
    }
}

pub(super) fn pod_facts(pod: &Pod, namespace_opted_in: bool) -> proxies::Pod {
    let label = pod.labels().get(INJECT_LABEL).map(String::as_str);
    let statuses = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    proxies::Pod {
        name: pod.name_any(),
        meshed: Member::of(pod).is_some_and(|member| member.meshed),
        opted_in: label == Some(ENABLED) || (namespace_opted_in && label != Some(DISABLED)),
        proxy_ready: statuses.filter(|status| status.name == PROXY_CONTAINER).any(|status| status.ready),
        version: pod.annotations().get(VERSION_ANNOTATION).cloned(),
        skip: inject::skip(pod),
    }
}

pub(super) fn stream_of(metrics: &Exposition) -> Stream {
    let connected = metrics.value(CONNECTED, &Labels::default()) == Some(1.0);
    Stream { connected, age: metrics.value(AGE, &Labels::default()) }
}

fn untrue<'a>(conditions: impl Iterator<Item = &'a Condition>) -> Vec<(String, String, String)> {
    let untrue: BTreeSet<_> = conditions
        .filter(|condition| condition.status != "True")
        .map(|condition| (condition.type_.clone(), condition.status.clone(), condition.message.clone()))
        .collect();
    untrue.into_iter().collect()
}
