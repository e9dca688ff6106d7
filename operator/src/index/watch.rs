//! Keeps the index as the API server has it.
//!
//! One watch per kind. A watch that breaks is opened again, with growing pauses; what was known stays until the new
//! list is there whole.

use super::{
    Index, Key, Kind, Object, ObjectName, convert, namespace::Namespace, node::Node, pod::Pod, service::Service,
    slice::Slice,
};
use conduit_crds::{ServiceProfile, TrafficPolicy};
use futures::{Stream, StreamExt};
use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use std::pin::pin;

/// Follows every kind. Ends never; is dropped to stop.
pub async fn run(index: &Index, client: Client) {
    let config = watcher::Config::default;
    let of_own_kind = |resource: &ApiResource| {
        watcher(Api::<DynamicObject>::all_with(client.clone(), resource), config()).default_backoff()
    };
    let domain = index.view().cluster_domain().to_owned();
    tokio::join!(
        follow(
            index,
            Kind::Namespace,
            watcher(Api::<PartialObjectMeta<core::Namespace>>::all(client.clone()), config()).default_backoff(),
            |namespace| Some(Object::Namespace(Namespace::from_metadata(&namespace.metadata))),
        ),
        follow(
            index,
            Kind::Node,
            watcher(Api::<core::Node>::all(client.clone()), config()).default_backoff(),
            |node| { Some(Object::Node(Node::from_object(&node))) }
        ),
        follow(
            index,
            Kind::Service,
            watcher(Api::<core::Service>::all(client.clone()), config()).default_backoff(),
            |service| Some(Object::Service(Service::from_object(&service))),
        ),
        follow(
            index,
            Kind::EndpointSlice,
            watcher(Api::<discovery::EndpointSlice>::all(client.clone()), config()).default_backoff(),
            |slice| Slice::from_object(&slice).map(Object::EndpointSlice),
        ),
        follow(index, Kind::Pod, watcher(Api::<core::Pod>::all(client.clone()), config()).default_backoff(), |pod| {
            Some(Object::Pod(Pod::from_object(&pod)))
        },),
        follow(index, Kind::ServiceProfile, of_own_kind(&ApiResource::erase::<ServiceProfile>(&())), |profile| {
            Some(Object::ServiceProfile(convert::service_profile(profile, &domain)))
        }),
        follow(index, Kind::TrafficPolicy, of_own_kind(&ApiResource::erase::<TrafficPolicy>(&())), |policy| {
            Some(Object::TrafficPolicy(convert::traffic_policy(policy)))
        }),
    );
}

/// Carries the events of one kind out on the index. `keep` gives what is kept of an object, none where it is of no
/// concern.
async fn follow<K: Resource>(
    index: &Index,
    kind: Kind,
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    keep: impl Fn(K) -> Option<Object>,
) {
    let mut events = pin!(events);
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.extend(keep(object)),
            Ok(Event::InitDone) => index.reset(kind, std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => {
                let key = key(kind, &object);
                match keep(object) {
                    Some(object) => index.apply(object),
                    None => index.delete(key),
                }
            }
            Ok(Event::Delete(object)) => index.delete(key(kind, &object)),
            Err(error) => tracing::warn!(?kind, %error, "a watch broke and is opened again"),
        }
    }
}

fn key(kind: Kind, object: &impl Resource) -> Key {
    Key { kind, name: ObjectName::new(object.namespace().unwrap_or_default(), object.name_any()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use serde_json::json;

    fn service(name: &str, ip: &str) -> core::Service {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"clusterIPs": [ip], "selector": {"app": name}, "ports": [{"port": 80}]},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn what_was_known_stays_until_a_new_list_is_there_whole() {
        let index = Index::new("cluster.local");
        let at = |ip: &str| index.view().service_at(ip.parse().unwrap()).map(|service| service.name.name.clone());
        let play = |events: Vec<Event<core::Service>>| {
            let events = events.into_iter().map(Ok).collect::<Vec<_>>();
            follow(&index, Kind::Service, stream::iter(events), |service| {
                Some(Object::Service(Service::from_object(&service)))
            })
        };
        play(vec![Event::Init, Event::InitApply(service("a", "10.0.0.1")), Event::InitDone]).await;
        play(vec![Event::Apply(service("b", "10.0.0.2")), Event::Init, Event::InitApply(service("c", "10.0.0.3"))])
            .await;
        assert_eq!((at("10.0.0.1"), at("10.0.0.2"), at("10.0.0.3")), (Some("a".into()), Some("b".into()), None));
        play(vec![Event::Init, Event::InitApply(service("c", "10.0.0.3")), Event::InitDone]).await;
        assert_eq!((at("10.0.0.1"), at("10.0.0.2"), at("10.0.0.3")), (None, None, Some("c".into())));
        play(vec![Event::Delete(service("c", "10.0.0.3"))]).await;
        assert_eq!(at("10.0.0.3"), None);
    }
}
