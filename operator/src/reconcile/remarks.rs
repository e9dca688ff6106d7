//! Tells by Events what a Service declares that cannot be understood: an `appProtocol` that means nothing here, a list of
//! opaque ports that is no list of ports. Without them a user would see only that a port is not what it was declared as.
//!
//! Services of pods without a proxy are none of Conduit's business, and are left alone. One replica does it for all, and
//! says each thing once for as long as it leads.

use super::leader::Leader;
use crate::index::{
    Fact, Index, ObjectName, Service, View,
    service::{APP_PROTOCOLS, AppProtocol},
};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use std::{
    collections::{BTreeSet, HashMap},
    future::pending,
    time::Duration,
};
use tokio::time::sleep;

/// How long to wait after Events could not be written.
const RETRY: Duration = Duration::from_secs(10);

/// What remarks are made from.
pub struct Remarks {
    /// The Services.
    pub index: Index,
    /// Where the Events go.
    pub client: Client,
    /// Name of this replica.
    pub instance: String,
}

/// Something that a Service declares and that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Remark {
    reason: &'static str,
    note: String,
}

impl Remarks {
    /// Tells for as long as this replica leads. Ends never; is dropped to stop.
    pub async fn run(&self, _: &Leader) {
        let changes = self.index.changes();
        self.index.wait_synced().await;
        let reporter = Reporter { controller: "conduit-operator".into(), instance: Some(self.instance.clone()) };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let mut told = HashMap::new();
        let mut concerned: BTreeSet<_> = self.index.view().services().map(|service| service.name.clone()).collect();
        loop {
            let mut failed = BTreeSet::new();
            for name in concerned {
                if let Err(error) = self.tell(&recorder, &name, &mut told).await {
                    tracing::warn!(service = %name, %error, "an event could not be written; trying again");
                    failed.insert(name);
                }
            }
            tokio::select! {
                () = changes.changed() => {}
                () = retry(&failed) => {}
            }
            concerned = failed;
            concerned.extend(changes.take().into_iter().filter_map(|fact| match fact {
                Fact::Service(name) | Fact::Endpoints(name) => Some(name),
                Fact::Address(_) | Fact::Pod(_) | Fact::Namespace(_) | Fact::Node(_) => None,
                Fact::PodRanges | Fact::TrustBundle | Fact::ProbeNetworks | Fact::RequiredTls => None,
            }));
        }
    }

    /// Tells what was not told yet of one Service.
    async fn tell(
        &self,
        recorder: &Recorder,
        name: &ObjectName,
        told: &mut HashMap<ObjectName, (String, BTreeSet<Remark>)>,
    ) -> kube::Result<()> {
        let found = {
            let view = self.index.view();
            view.service(name).map(|service| (service.uid.clone(), remarks(&view, service)))
        };
        let Some((uid, remarks)) = found.filter(|(_, remarks)| !remarks.is_empty()) else {
            told.remove(name);
            return Ok(());
        };
        // A Service that was made anew has its own Events.
        let before = told.remove(name).filter(|(known, _)| *known == uid).map(|(_, before)| before).unwrap_or_default();
        for remark in remarks.difference(&before) {
            let event = Event {
                type_: EventType::Warning,
                reason: remark.reason.into(),
                note: Some(remark.note.clone()),
                action: "Compiling".into(),
                secondary: None,
            };
            recorder.publish(&event, &regarding(name, &uid)).await?;
        }
        told.insert(name.clone(), (uid, remarks));
        Ok(())
    }
}

async fn retry(failed: &BTreeSet<ObjectName>) {
    if failed.is_empty() { pending().await } else { sleep(RETRY).await }
}

/// What cannot be understood of a Service that has pods with a proxy.
fn remarks(view: &View, service: &Service) -> BTreeSet<Remark> {
    let mut endpoints = view.slices(&service.name).flat_map(|slice| &slice.endpoints);
    let meshed =
        endpoints.any(|endpoint| endpoint.pod.as_ref().and_then(|pod| view.pod(pod)).is_some_and(|p| p.meshed));
    if !meshed {
        return BTreeSet::new();
    }
    let protocols = service.ports.iter().filter_map(|port| match &port.app_protocol {
        Some(AppProtocol::Unknown(value)) => Some(Remark {
            reason: "UnknownAppProtocol",
            note: format!(
                "port {}: appProtocol {value:?} is not understood, so that what a connection is has to be found out from \
                 its first bytes; understood are {}",
                port.port,
                APP_PROTOCOLS.map(|(name, _)| name).join(", ")
            ),
        }),
        Some(AppProtocol::Known(_)) | None => None,
    });
    let opaque = match &service.opaque_ports {
        Some(Err(why)) => {
            Some(Remark { reason: "InvalidAnnotation", note: format!("{why}; proxies keep what they hold") })
        }
        Some(Ok(_)) | None => None,
    };
    protocols.chain(opaque).collect()
}

fn regarding(name: &ObjectName, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Service".into()),
        name: Some(name.name.clone()),
        namespace: Some(name.namespace.clone()),
        uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        index::{Kind, manifests::objects},
        reconcile::{leader::Election, status::fake::FakeApi},
    };
    use k8s_openapi::jiff::Timestamp;
    use kube::Api;
    use serde_json::Value;
    use std::sync::Arc;
    use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

    fn service(uid: &str, port: &str, annotations: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: web, uid: {uid}, annotations: {{{annotations}}}}}\n\
             spec: {{clusterIPs: [10.96.0.1], selector: {{app: web}}, ports: [{{port: 80, {port}}}]}}\n---\n"
        )
    }

    fn backed(container: &str) -> String {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{namespace: shop, name: web-1, labels: {{kubernetes.io/service-name: web}}}}\n\
             addressType: IPv4\nendpoints: [{{addresses: [10.1.0.1], targetRef: {{kind: Pod, name: web-1}}}}]\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: web-1}}\n\
             spec: {{initContainers: [{{name: {container}}}], containers: []}}\n---\n"
        )
    }

    fn index(yaml: &str) -> Index {
        let index = Index::new("cluster.local");
        let all = objects(yaml, "cluster.local").unwrap();
        for kind in Kind::ALL {
            index.reset(kind, all.iter().filter(|object| object.key().kind == kind).cloned().collect());
        }
        index
    }

    const BAD_PORTS: &str = "config.conduit.io/opaque-ports: all";

    #[test]
    fn what_a_meshed_service_declares_and_nobody_understands_is_remarked() {
        let (meshed, plain) = (backed("conduit-proxy"), backed("other"));
        for (port, annotations, pods, expected) in [
            ("appProtocol: http", "", &meshed, [].as_slice()),
            ("appProtocol: example.org/x", "", &plain, &[]),
            (
                "appProtocol: example.org/x",
                "",
                &meshed,
                &["UnknownAppProtocol: port 80: appProtocol \"example.org/x\" is"],
            ),
            (
                "appProtocol: http",
                BAD_PORTS,
                &meshed,
                &["InvalidAnnotation: annotation config.conduit.io/opaque-ports must"],
            ),
        ] {
            let index = index(&(service("u1", port, annotations) + pods));
            let view = index.view();
            let said: Vec<_> = view.services().flat_map(|service| remarks(&view, service)).collect();
            let said: Vec<_> = said.iter().map(|remark| format!("{}: {}", remark.reason, remark.note)).collect();
            assert_eq!(said.len(), expected.len(), "{said:?}");
            assert!(said.iter().zip(expected).all(|(said, expected)| said.starts_with(expected)), "{said:?}");
        }
    }

    async fn told(api: &FakeApi, count: usize) -> Vec<Value> {
        let arrived = async {
            while api.created("events").len() < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("events are written");
        api.created("events")
    }

    #[tokio::test(start_paused = true)]
    async fn each_remark_is_told_once_and_again_of_a_service_made_anew() {
        let unknown = |uid| service(uid, "appProtocol: example.org/x", "");
        let index = index(&(unknown("u1") + &backed("conduit-proxy")));
        let api = FakeApi::default();
        let remarks = Arc::new(Remarks { index: index.clone(), client: api.client(), instance: "one".into() });
        let leases = Api::namespaced(api.client(), "conduit");
        let now = || Timestamp::UNIX_EPOCH;
        let election = Election { leases, name: "conduit-operator".into(), identity: "one".into(), now };
        let _leading = AbortOnDropHandle::new(tokio::spawn(election.run(CancellationToken::new(), move |leader| {
            let remarks = Arc::clone(&remarks);
            async move { remarks.run(&leader).await }
        })));
        let first = told(&api, 1).await;
        assert_eq!((&first[0]["reason"], &first[0]["regarding"]["uid"]), (&"UnknownAppProtocol".into(), &"u1".into()));

        let apply = |yaml: &str| objects(yaml, "cluster.local").unwrap().into_iter().for_each(|o| index.apply(o));
        apply(&service("u1", "appProtocol: example.org/x, name: http", ""));
        sleep(2 * RETRY).await;
        assert_eq!(api.created("events").len(), 1, "what was told is not told again");
        apply(&unknown("u2"));
        assert_eq!(told(&api, 2).await.len(), 2);
    }
}
