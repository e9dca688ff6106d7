//! The facts of an installation. They decide nothing.

use std::collections::BTreeMap;

use conduit_operator::inject::{ENABLED, INJECT_LABEL, TRUST_BUNDLE, TRUST_BUNDLE_KEY};
use futures::future;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, ObjectMeta, PartialObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::super::finding::{Fact, Unknown};
use super::super::installed::{Admission, Bundles, Clocks, Definition, Operator};
use super::{DEADLINE, Gatherer, INJECTOR, VALIDATOR, known, late};
use crate::cluster::causes;
use crate::exposition::{Exposition, Labels};
use crate::forward;
use crate::workload::Member;

const IDENTITY_SECRET: &str = "conduit-identity";
const OPERATOR_SELECTOR: &str = "app.kubernetes.io/name=conduit-operator";
const OPERATOR_ADMIN_PORT: u16 = 9990;
/// Where nodes keep their Leases.
const LEASES: &str = "kube-node-lease";
/// Where a pod is made for trial.
const TRIAL_NAMESPACE: &str = "default";
const EXPIRATION: &str = "conduit_identity_certificate_expiration_timestamp_seconds";

impl Gatherer {
    pub(super) async fn secret(&self, operator: &Fact<Option<Operator>>) -> Fact<(String, bool)> {
        let operator = operator.as_ref().ok().and_then(Option::as_ref);
        let own = operator.and_then(|operator| operator.argument("--issuer-secret")).filter(|name| !name.is_empty());
        let name = own.unwrap_or(IDENTITY_SECRET).to_owned();
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.conduit);
        let what = format!("get secrets/{name} in namespace {}", self.conduit);
        let there = known(&what, api.get_metadata_opt(&name)).await?.is_some();
        Ok((name, there))
    }

    pub(super) async fn webhooks(&self) -> Fact<BTreeMap<String, Option<String>>> {
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

    pub(super) async fn admission(&self) -> Fact<Admission> {
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

    pub(super) async fn definitions(&self) -> Fact<Vec<(String, Definition)>> {
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

    pub(super) async fn expirations(&self) -> Fact<BTreeMap<String, Timestamp>> {
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

    pub(super) async fn bundles(&self) -> Fact<Bundles> {
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

    pub(super) async fn clocks(&self) -> Fact<Clocks> {
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

pub(super) fn definition(wanted: &CustomResourceDefinition, found: Option<&CustomResourceDefinition>) -> Definition {
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
