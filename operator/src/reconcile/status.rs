//! Writes into the status of ServiceProfiles and TrafficPolicies what became of them.
//!
//! One replica does, for all: it asks each replica how far its own proxies are, adds up, and writes what differs from
//! what is written. What is not known is said to be not known.

mod conditions;
#[cfg(test)]
pub(super) mod fake;
mod replicas;

pub use replicas::router;

use super::leader::Leader;
use crate::{
    compile::{Source, programmed::SourceKind},
    index::{Index, ObjectName, created},
};
use conditions::{Ancestor, Subject, drafts, settle};
use conduit_crds::{ServiceProfile, TrafficPolicy, traffic_policy::status::CONTROLLER_NAME};
use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use replicas::{Replicas, sum};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// The least time between two rounds.
const ROUND: Duration = Duration::from_secs(2);
/// Who the API server's records say wrote a status.
const FIELD_MANAGER: &str = "conduit-operator";

/// What the status of objects is written from.
pub struct Status {
    /// The objects.
    pub index: Index,
    /// Where the status goes.
    pub client: Client,
    /// The operator's own Service, whose endpoints are its replicas.
    pub service: ObjectName,
    /// The port on which replicas serve [`router`].
    pub admin_port: u16,
    /// The clock that conditions take their times from.
    pub now: fn() -> Timestamp,
}

/// Name of the Lease that the replica holds which writes.
pub const LEASE: &str = "conduit-operator";

/// What is written in the status of each object, whatever its generation. An object that was deleted and made again is
/// another, with no status yet: its time of creation tells it.
type Written = HashMap<(SourceKind, ObjectName, i64), Vec<Ancestor>>;

impl Status {
    /// The Leases among which that of the writing replica is.
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.service.namespace)
    }

    /// Writes for as long as this replica leads. Ends never; is dropped to stop.
    pub async fn run(&self, leader: &Leader) {
        self.index.wait_synced().await;
        let mut written = loop {
            match self.read().await {
                Ok(written) => break written,
                Err(error) => tracing::warn!(%error, "the status of objects cannot be read"),
            }
            sleep(ROUND).await;
        };
        let replicas = Replicas::new(self.admin_port);
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            self.round(leader, &replicas, &mut written).await;
        }
    }

    /// What stands in the status of all objects now.
    async fn read(&self) -> kube::Result<Written> {
        let mut written = HashMap::new();
        for kind in [SourceKind::ServiceProfile, SourceKind::TrafficPolicy] {
            let objects: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource(kind));
            for object in objects.list(&ListParams::default()).await? {
                let name = ObjectName::new(object.namespace().unwrap_or_default(), object.name_any());
                let created = created(&object.metadata);
                written.insert((kind, name, created), conditions::read(kind, &object.data["status"]));
            }
        }
        Ok(written)
    }

    async fn round(&self, leader: &Leader, replicas: &Replicas, written: &mut Written) {
        let addresses = {
            let view = self.index.view();
            let endpoints = view.slices(&self.service).flat_map(|slice| &slice.endpoints);
            endpoints.filter(|endpoint| endpoint.ready || endpoint.serving).map(|endpoint| endpoint.address).collect()
        };
        let answers = replicas.ask(addresses).await;
        let subjects = drafts(&self.index.view(), |source| sum(source, &answers));
        let exist: HashSet<_> = subjects.iter().map(key).collect();
        written.retain(|subject, _| exist.contains(subject));
        for subject in subjects {
            let key = key(&subject);
            let Subject { source, drafts, .. } = subject;
            let before = written.get(&key).map(Vec::as_slice).unwrap_or_default();
            let after = settle(drafts, source.generation, before, (self.now)());
            if before == after {
                continue;
            }
            match self.write(leader, &source, &after).await {
                Ok(()) => {
                    written.insert(key, after);
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => tracing::warn!(object = %source.object(), %error, "a status could not be written"),
            }
        }
    }

    async fn write(&self, _: &Leader, source: &Source, ancestors: &[Ancestor]) -> kube::Result<()> {
        let objects: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &source.namespace, &resource(source.kind));
        let patch = json!({ "status": to_value(source.kind, ancestors) });
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        objects.patch_status(&source.name, &parameters, &Patch::Merge(patch)).await.map(drop)
    }
}

fn key(subject: &Subject) -> (SourceKind, ObjectName, i64) {
    let Source { kind, namespace, name, .. } = &subject.source;
    (*kind, ObjectName::new(namespace, name), subject.created)
}

fn resource(kind: SourceKind) -> ApiResource {
    match kind {
        SourceKind::ServiceProfile => ApiResource::erase::<ServiceProfile>(&()),
        SourceKind::TrafficPolicy => ApiResource::erase::<TrafficPolicy>(&()),
    }
}

/// The status as each kind's schema has it.
fn to_value(kind: SourceKind, ancestors: &[Ancestor]) -> Value {
    match kind {
        SourceKind::ServiceProfile => {
            let conditions: Vec<_> = ancestors.iter().flat_map(|ancestor| &ancestor.conditions).collect();
            json!({ "conditions": conditions })
        }
        SourceKind::TrafficPolicy => {
            let ancestors = ancestors.iter().map(|ancestor| {
                json!({
                    "ancestorRef": ancestor.reference,
                    "controllerName": CONTROLLER_NAME,
                    "conditions": ancestor.conditions,
                })
            });
            json!({ "ancestors": ancestors.collect::<Vec<_>>() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{fake::FakeApi, *};
    use crate::{
        compile::Programmed,
        index::{Kind, manifests::objects},
        reconcile::leader::Election,
    };
    use tokio::{net::TcpListener, sync::watch, time::timeout};
    use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

    const PROFILE: &str = "/apis/conduit.io/v1alpha1/namespaces/shop/serviceprofiles/web.shop.svc.cluster.local";

    /// A replica with a profile and its Service, alone in its cluster.
    const MANIFESTS: &str = "
apiVersion: conduit.io/v1alpha1
kind: ServiceProfile
metadata: {namespace: shop, name: web.shop.svc.cluster.local, generation: 3}
spec: {}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web}
spec: {clusterIPs: [10.96.0.1], selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: conduit, name: x, labels: {kubernetes.io/service-name: conduit-operator}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
";

    async fn first_patch(api: &FakeApi) -> Vec<(String, Value)> {
        let patches = async {
            loop {
                let patches = api.patches();
                if !patches.is_empty() {
                    return patches;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(5 * ROUND, patches).await.expect("a status is written")
    }

    #[tokio::test]
    async fn the_leader_writes_what_the_replicas_say_when_it_changes() {
        let index = Index::new("cluster.local");
        let all = objects(MANIFESTS, "cluster.local").unwrap();
        for kind in Kind::ALL {
            index.reset(kind, all.iter().filter(|object| object.key().kind == kind).cloned().collect());
        }
        let source = Source::profile(index.view().profiles().next().unwrap());
        let (counts, counted) = watch::channel(Programmed { proxies: 2, current: 1, ..Programmed::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin_port = listener.local_addr().unwrap().port();
        let report = router(move || {
            let report = [(source.clone(), *counted.borrow())].into();
            async { report }
        });
        let _replica = AbortOnDropHandle::new(tokio::spawn(async move { axum::serve(listener, report).await }));

        let api = FakeApi::default();
        for kind in ["serviceprofiles", "trafficpolicies"] {
            api.put(&format!("/apis/conduit.io/v1alpha1/{kind}"), json!({"metadata": {}, "items": []}));
        }
        api.put(PROFILE, json!({"metadata": {"name": "web.shop.svc.cluster.local", "namespace": "shop"}}));
        let status = Status {
            index: index.clone(),
            client: api.client(),
            service: ObjectName::new("conduit", "conduit-operator"),
            admin_port,
            now: || Timestamp::UNIX_EPOCH,
        };
        let election = Election {
            leases: status.leases(),
            name: LEASE.into(),
            identity: "one".into(),
            now: || Timestamp::UNIX_EPOCH,
        };
        let status = std::sync::Arc::new(status);
        let _leading = AbortOnDropHandle::new(tokio::spawn(election.run(CancellationToken::new(), move |leader| {
            let status = std::sync::Arc::clone(&status);
            async move { status.run(&leader).await }
        })));

        let [(path, patch)] = first_patch(&api).await.try_into().unwrap();
        assert_eq!(path, format!("{PROFILE}/status"));
        let conditions = patch["status"]["conditions"].as_array().unwrap().clone();
        let said = |conditions: &[Value]| {
            let line = |c: &Value| format!("{} {} {}", c["type"], c["status"], c["observedGeneration"]);
            conditions.iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            said(&conditions),
            ["\"Accepted\" \"True\" 3", "\"ResolvedRefs\" \"True\" 3", "\"Programmed\" \"False\" 3",]
        );
        assert_eq!(conditions[2]["message"], "1/2 proxies");

        counts.send(Programmed { proxies: 2, current: 2, ..Programmed::default() }).unwrap();
        let [(_, patch)] = first_patch(&api).await.try_into().unwrap();
        assert_eq!(patch["status"]["conditions"][2]["message"], "2/2 proxies");

        // Deleted and made again between two rounds: the new object has no status, whatever the old one had.
        let anew = MANIFESTS.replace("generation: 3", "generation: 3, creationTimestamp: \"2026-01-01T00:00:00Z\"");
        objects(&anew, "cluster.local").unwrap().into_iter().for_each(|object| index.apply(object));
        let [(_, patch)] = first_patch(&api).await.try_into().unwrap();
        assert_eq!(patch["status"]["conditions"][2]["message"], "2/2 proxies");
    }
}
