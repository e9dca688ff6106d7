//! What the checks are made on, asked of the cluster all at once, each within a deadline. It decides nothing.
//!
//! No key is read: of the Secret only that it is there, and how long certificates live from the operator's metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use conduit_crds::{ServiceProfile, TrafficPolicy};
use conduit_operator::inject::{
    self, DISABLED, ENABLED, INJECT_LABEL, PROXY_CONTAINER, TRUST_BUNDLE, TRUST_BUNDLE_KEY, VERSION_ANNOTATION,
};
use futures::{StreamExt, future, stream};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, ObjectMeta, PartialObjectMeta, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::before::{self, Present, RIGHTS, Right, Scope, Version};
use super::finding::{Fact, Unknown};
use super::installed::{self, Admission, Bundles, Clocks, Definition, Operator};
use super::proxies::{self, Object, Stream};
use crate::cluster::causes;
use crate::exposition::{Exposition, Labels};
use crate::forward;
use crate::scrape::{self, AT_ONCE};
use crate::workload::Member;

/// The Deployment, and what else has its name.
const OPERATOR: &str = "conduit-operator";
const INJECTOR: &str = "conduit-injector";
const VALIDATOR: &str = "conduit-validator";
const IDENTITY_SECRET: &str = "conduit-identity";
const OPERATOR_SELECTOR: &str = "app.kubernetes.io/name=conduit-operator";
const OPERATOR_ADMIN_PORT: u16 = 9990;
const VERSION_LABEL: &str = "app.kubernetes.io/version";
/// Helm's mark of the release that owns an object.
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";
/// Where nodes keep their Leases.
const LEASES: &str = "kube-node-lease";
/// Where a pod is made for trial.
const TRIAL_NAMESPACE: &str = "default";
const EXPIRATION: &str = "conduit_identity_certificate_expiration_timestamp_seconds";
const CONNECTED: &str = "conduit_discovery_connected";
const AGE: &str = "conduit_config_age_seconds";

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
            let listed = self.list::<Pod>(Api::namespaced(self.client.clone(), namespace), "pods", Some(namespace));
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

    async fn secret(&self, operator: &Fact<Option<Operator>>) -> Fact<(String, bool)> {
        let operator = operator.as_ref().ok().and_then(Option::as_ref);
        let own = operator.and_then(|operator| operator.argument("--issuer-secret")).filter(|name| !name.is_empty());
        let name = own.unwrap_or(IDENTITY_SECRET).to_owned();
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.conduit);
        let what = format!("get secrets/{name} in namespace {}", self.conduit);
        let there = known(&what, api.get_metadata_opt(&name)).await?.is_some();
        Ok((name, there))
    }

    async fn webhooks(&self) -> Fact<BTreeMap<String, Option<String>>> {
        let injectors = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let validators = Api::<ValidatingWebhookConfiguration>::all(self.client.clone());
        let (injector, validator) = futures::join!(
            known("get mutatingwebhookconfigurations", injectors.get_opt(INJECTOR)),
            known("get validatingwebhookconfigurations", validators.get_opt(VALIDATOR)),
        );
        let injector = injector?.and_then(|injector| injector.webhooks).unwrap_or_default();
        let validator = validator?.and_then(|validator| validator.webhooks).unwrap_or_default();
        let all = injector.into_iter().map(|webhook| (webhook.name, webhook.client_config));
        let all = all.chain(validator.into_iter().map(|webhook| (webhook.name, webhook.client_config)));
        let pem = |bytes: Vec<u8>| (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned());
        Ok(all.map(|(name, config)| (name, config.ca_bundle.and_then(|bundle| pem(bundle.0)))).collect())
    }

    async fn admission(&self) -> Fact<Admission> {
        let trial = json!({
            "metadata": {"generateName": "conduit-check-", "labels": {INJECT_LABEL: ENABLED}},
            "spec": {"containers": [{"name": "check", "image": "check"}]},
        });
        let trial: Pod = serde_json::from_value(trial).map_err(|error| Unknown::Failed(error.to_string()))?;
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let api = Api::<Pod>::namespaced(self.client.clone(), TRIAL_NAMESPACE);
        let made = tokio::time::timeout(DEADLINE, api.create(&params, &trial)).await;
        let what = format!("create pods in namespace {TRIAL_NAMESPACE}");
        match made {
            Ok(Ok(pod)) => {
                let meshed = Member::of(&named(pod)).is_some_and(|member| member.meshed);
                Ok(if meshed { Admission::Injected } else { Admission::NotInjected })
            }
            Ok(Err(kube::Error::Api(status))) if status.message.contains("failed calling webhook") => {
                Ok(Admission::Unreachable(status.message.clone()))
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 403 && status.message.contains("cannot create") => {
                Err(Unknown::Forbidden(what))
            }
            Ok(Err(kube::Error::Api(status))) => Ok(Admission::Refused(status.message.clone())),
            Ok(Err(error)) => Err(Unknown::Failed(causes(&error))),
            Err(_) => Err(late(&what)),
        }
    }

    async fn definitions(&self) -> Fact<Vec<(String, Definition)>> {
        let api = Api::<CustomResourceDefinition>::all(self.client.clone());
        let compared = conduit_crds::definitions().into_iter().map(|wanted| {
            let api = api.clone();
            async move {
                let name = wanted.name_any();
                let found = known("get customresourcedefinitions", api.get_opt(&name)).await?;
                Ok((name, definition(&wanted, found.as_ref())))
            }
        });
        future::try_join_all(compared).await
    }

    async fn expirations(&self) -> Fact<BTreeMap<String, Timestamp>> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &self.conduit);
        let what = format!("list pods in namespace {}", self.conduit);
        let params = ListParams::default().labels(OPERATOR_SELECTOR);
        let pods = known(&what, api.list(&params)).await?;
        let running = pods.items.iter().filter_map(Member::of).find(|member| member.running);
        let pod = running.ok_or(Unknown::Elsewhere("operator-ready"))?.pod;
        let text = forward::get(&self.client, &self.conduit, &pod, OPERATOR_ADMIN_PORT, "/metrics").await;
        let text = text.map_err(|failure| of_failure(&pod, &failure))?;
        let metrics = Exposition::parse(&text, &[EXPIRATION]).map_err(|error| Unknown::Failed(error.to_string()))?;
        let expiration = |(labels, seconds): (&Labels, f64)| {
            Some((labels.get("certificate")?.to_owned(), Timestamp::from_second(seconds as i64).ok()?))
        };
        Ok(metrics.series(EXPIRATION).filter_map(expiration).collect())
    }

    async fn bundles(&self) -> Fact<Bundles> {
        let labelled = ListParams::default().labels(&format!("{INJECT_LABEL}={ENABLED}"));
        let ours = ListParams::default().fields(&format!("metadata.name={TRUST_BUNDLE}"));
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let config_maps = Api::<ConfigMap>::all(self.client.clone());
        let (namespaces, config_maps) = futures::join!(
            known("list namespaces", namespaces.list_metadata(&labelled)),
            known("list configmaps in all namespaces", config_maps.list(&ours)),
        );
        let namespaces = namespaces?.items.into_iter().filter(|one| one.metadata.deletion_timestamp.is_none());
        let wanted = namespaces.map(|namespace: PartialObjectMeta<Namespace>| namespace.name_any());
        let held = config_maps?.items.into_iter().filter_map(|map| {
            let namespace = map.metadata.namespace?;
            Some((namespace, map.data.and_then(|mut data| data.remove(TRUST_BUNDLE_KEY)).unwrap_or_default()))
        });
        Ok(Bundles { wanted: wanted.collect(), held: held.collect() })
    }

    async fn bundle(&self, namespace: &str) -> Fact<Option<String>> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let what = format!("get configmaps in namespace {namespace}");
        let config_map = known(&what, api.get_opt(TRUST_BUNDLE)).await?;
        Ok(config_map.and_then(|map| map.data?.remove(TRUST_BUNDLE_KEY)))
    }

    async fn clocks(&self) -> Fact<Clocks> {
        let leases = Api::<Lease>::namespaced(self.client.clone(), LEASES);
        let leases = known("list leases in namespace kube-node-lease", leases.list(&ListParams::default())).await?;
        let asked = http::Request::get("/version").body(kube::client::Body::empty());
        let asked = asked.map_err(|error| Unknown::Failed(error.to_string()))?;
        let answer = known("read the version of the API server", self.client.send(asked)).await?;
        let here = Timestamp::now();
        let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
        let server = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
        let server = server.ok_or_else(|| Unknown::Failed("the API server does not say what time it is".into()))?;
        let renewed = |lease: Lease| Some((lease.metadata.name?, lease.spec?.renew_time?.0));
        Ok(Clocks { here, server, nodes: leases.items.into_iter().filter_map(renewed).collect() })
    }

    async fn opted_in(&self, namespace: &str) -> Fact<bool> {
        let api = Api::<Namespace>::all(self.client.clone());
        let found = known(&format!("get namespaces/{namespace}"), api.get_metadata_opt(namespace)).await?;
        let found = found.ok_or_else(|| Unknown::Failed(format!("there is no namespace {namespace}")))?;
        Ok(found.labels().get(INJECT_LABEL).is_some_and(|value| value == ENABLED))
    }

    /// What proxies say of the operator's stream, and those that say nothing.
    async fn streams(&self, members: &[Member]) -> (Vec<(String, Stream)>, BTreeMap<String, String>) {
        let running = members.iter().filter(|member| member.meshed && member.running);
        let port = conduit_model::settings::ADMIN_PORT;
        let asked = running.map(|member| async move {
            let text = forward::get(&self.client, &member.namespace, &member.pod, port, "/metrics").await;
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

    async fn objects(&self, namespace: &str) -> Fact<Vec<Object>> {
        let (profiles, policies) = futures::join!(
            self.list::<ServiceProfile>(
                Api::namespaced(self.client.clone(), namespace),
                "serviceprofiles.conduit.io",
                Some(namespace)
            ),
            self.list::<TrafficPolicy>(
                Api::namespaced(self.client.clone(), namespace),
                "trafficpolicies.conduit.io",
                Some(namespace)
            ),
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

    async fn list<K>(&self, api: Api<K>, resource: &str, namespace: Option<&str>) -> Fact<Vec<K>>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let place = namespace.map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}"));
        Ok(known(&format!("list {resource} in {place}"), api.list(&ListParams::default())).await?.items)
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

fn of_failure(pod: &str, failure: &forward::Failure) -> Unknown {
    match failure {
        forward::Failure::Forbidden => Unknown::Forbidden("get and create pods/portforward".into()),
        other => Unknown::Failed(format!("pod {pod}: {other}")),
    }
}

/// A pod that was made for trial, with the name and namespace that it would have had.
fn named(mut pod: Pod) -> Pod {
    pod.metadata = ObjectMeta { name: Some("check".into()), namespace: Some(TRIAL_NAMESPACE.into()), ..pod.metadata };
    pod
}

fn definition(wanted: &CustomResourceDefinition, found: Option<&CustomResourceDefinition>) -> Definition {
    let Some(found) = found else { return Definition::Missing };
    let conditions = found.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let established = conditions.filter(|condition| condition.type_ == "Established" && condition.status == "True");
    let schemas = |definition: &CustomResourceDefinition| {
        let versions = definition.spec.versions.iter();
        versions.map(|version| (version.name.clone(), version.schema.clone())).collect::<Vec<_>>()
    };
    match () {
        () if established.count() == 0 => Definition::NotEstablished,
        () if schemas(wanted) != schemas(found) => Definition::Different,
        () => Definition::Current,
    }
}

fn pod_facts(pod: &Pod, namespace_opted_in: bool) -> proxies::Pod {
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

fn stream_of(metrics: &Exposition) -> Stream {
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

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
