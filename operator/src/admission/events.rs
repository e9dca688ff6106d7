//! Events that tell why a pod was left without a proxy. Must not hold up an answer: they are written apart from it, and
//! dropped when more come than can be written.

use crate::inject::Skip;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

/// Events that wait to be written, at most. Another skip of the same workload comes soon.
const QUEUE: usize = 256;

/// Takes skips to be told.
#[derive(Clone, Debug)]
pub struct Events(mpsc::Sender<(ObjectReference, Skip)>);

/// Writes the events of its [`Events`], until that is dropped.
pub struct EventWriter {
    queue: mpsc::Receiver<(ObjectReference, Skip)>,
    recorder: Recorder,
}

impl Events {
    /// A queue, and who writes what is put there. `instance` names this replica.
    pub fn new(client: Client, instance: String) -> (Self, EventWriter) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let reporter = Reporter { controller: "conduit-operator".into(), instance: Some(instance) };
        (Self(sender), EventWriter { queue, recorder: Recorder::new(client, reporter) })
    }

    /// Tells that `pod` was left without a proxy.
    pub(super) fn skipped(&self, namespace: &str, pod: &Pod, skip: Skip) {
        if self.0.try_send((regarding(namespace, pod), skip)).is_err() {
            tracing::warn!(namespace, %skip, "an event was dropped: too many wait to be written");
        }
    }
}

impl EventWriter {
    /// Writes events until there is nobody left to put any in.
    pub async fn run(mut self) {
        while let Some((regarding, skip)) = self.queue.recv().await {
            let event = Event {
                type_: EventType::Normal,
                reason: "InjectionSkipped".into(),
                note: Some(skip.to_string()),
                action: "Injecting".into(),
                secondary: None,
            };
            if let Err(error) = self.recorder.publish(&event, &regarding).await {
                tracing::warn!(%error, object = ?regarding.name, "an event could not be written");
            }
        }
    }
}

/// Where the user will look: a pod that is just being created has no uid, and often no name. Its controller has both.
fn regarding(namespace: &str, pod: &Pod) -> ObjectReference {
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    match (owner, &pod.metadata.name) {
        (Some(owner), _) => ObjectReference {
            api_version: Some(owner.api_version.clone()),
            kind: Some(owner.kind.clone()),
            name: Some(owner.name.clone()),
            namespace: Some(namespace.to_owned()),
            uid: Some(owner.uid.clone()),
            ..ObjectReference::default()
        },
        (None, Some(name)) => ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(name.clone()),
            namespace: Some(namespace.to_owned()),
            ..ObjectReference::default()
        },
        (None, None) => ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Namespace".into()),
            name: Some(namespace.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectReference::default()
        },
    }
}
