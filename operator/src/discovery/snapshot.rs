//! What a topic says at one moment, shared by every stream that subscribes to it.

use crate::{
    compile::{self, Compiled, Invalid, Source},
    index::{Fact, ObjectName, View},
};
use conduit_model::{EndpointSet, EndpointUpdate, Forward, Inbound, Outbound, Version, wire};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

/// Something that proxies are told about. Two that ask for the same are told the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum TopicKey {
    /// A pod's own configuration. The uid tells it from an earlier pod of the name.
    Inbound { pod: ObjectName, uid: Option<String> },
    /// The configuration of an address for the clients in one namespace.
    Outbound { address: SocketAddr, client: Arc<str> },
    /// The endpoints behind an address.
    Endpoints { address: SocketAddr },
}

#[derive(Debug)]
pub(super) struct Snapshot {
    pub content: Content,
    /// The objects that it was made from.
    pub sources: BTreeSet<Source>,
    /// Those that another overrides in it.
    pub overridden: BTreeSet<Source>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one per topic, behind an `Arc`")]
pub(super) enum Content {
    /// There is nothing to tell: no such pod, no endpoints that are anyone's business.
    Nothing,
    /// What is needed cannot be read, and why; and what who holds nothing is told meanwhile.
    Invalid { reason: String, meanwhile: Version, resource: Resource },
    /// This is so, and this is its version.
    Valid(Version, Resource),
}

#[derive(Debug)]
pub(super) enum Resource {
    Inbound(Inbound),
    Outbound(Outbound),
    Endpoints(EndpointSet),
}

impl Snapshot {
    /// What `key` says by `view`, and which facts that depends on. What stays as it was `before` is shared with it.
    pub(super) fn compile(view: &View, key: &TopicKey, before: Option<&Self>) -> (Self, BTreeSet<Fact>) {
        match key {
            TopicKey::Inbound { pod, uid } => {
                let known = view.pod(pod).filter(|known| uid.as_ref().is_none_or(|uid| is_pod(&known.uid, uid)));
                match known {
                    Some(pod) => Self::of(compile::inbound(view, pod), |inbound| {
                        Content::Valid(Version::of_inbound(&inbound), Resource::Inbound(inbound))
                    }),
                    None => {
                        let facts = BTreeSet::from([Fact::Pod(pod.clone())]);
                        (
                            Self { content: Content::Nothing, sources: BTreeSet::new(), overridden: BTreeSet::new() },
                            facts,
                        )
                    }
                }
            }
            TopicKey::Outbound { address, client } => Self::of(compile::outbound(view, client, *address), |outbound| {
                Content::Valid(Version::of_outbound(&outbound), Resource::Outbound(outbound))
            }),
            TopicKey::Endpoints { address } => Self::of(compile::endpoints(view, *address), |endpoints| {
                endpoints.map_or(Content::Nothing, |endpoints| {
                    let mut set = before.and_then(Self::endpoints).cloned().unwrap_or_default();
                    EndpointUpdate::Whole(endpoints.into_values().collect()).apply(&mut set);
                    Content::Valid(Version::of_endpoints(&set), Resource::Endpoints(set))
                })
            }),
        }
    }

    /// The version, where there is something to have one.
    pub(super) fn version(&self) -> Option<Version> {
        match &self.content {
            Content::Valid(version, _) => Some(*version),
            Content::Nothing | Content::Invalid { .. } => None,
        }
    }

    /// The endpoints, where it tells any.
    pub(super) fn endpoints(&self) -> Option<&EndpointSet> {
        match &self.content {
            Content::Valid(_, Resource::Endpoints(endpoints)) => Some(endpoints),
            Content::Valid(..) | Content::Nothing | Content::Invalid { .. } => None,
        }
    }

    /// Whether who is told this needs the endpoints, too. Who keeps an earlier configuration may.
    pub(super) fn needs_endpoints(&self) -> bool {
        match &self.content {
            Content::Valid(_, Resource::Outbound(outbound)) => outbound.forward == Forward::Balance,
            Content::Valid(_, Resource::Inbound(_) | Resource::Endpoints(_)) | Content::Nothing => false,
            Content::Invalid { .. } => true,
        }
    }

    /// Whether `other` says the same.
    pub(super) fn says(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            (Content::Nothing, Content::Nothing) => true,
            (
                Content::Invalid { reason, meanwhile, .. },
                Content::Invalid { reason: other_reason, meanwhile: other_meanwhile, .. },
            ) => (reason, meanwhile) == (other_reason, other_meanwhile),
            (Content::Valid(one, _), Content::Valid(other, _)) => one == other,
            _ => false,
        }
    }

    fn of<T>(compiled: Compiled<T>, content: impl FnOnce(T) -> Content) -> (Self, BTreeSet<Fact>) {
        let content = match compiled.config {
            Ok(config) => content(config),
            Err(Invalid { unreadable, meanwhile }) => match content(meanwhile) {
                Content::Valid(meanwhile, resource) => {
                    Content::Invalid { reason: unreadable.to_string(), meanwhile, resource }
                }
                Content::Nothing | Content::Invalid { .. } => Content::Nothing,
            },
        };
        (Self { content, sources: compiled.sources, overridden: compiled.overridden }, compiled.facts)
    }
}

impl Resource {
    /// It as what holds as long as something cannot be read. Endpoints need nothing that could be unreadable.
    pub(super) fn meanwhile(&self) -> Option<wire::invalid::Meanwhile> {
        match self {
            Self::Inbound(inbound) => Some(wire::invalid::Meanwhile::Inbound(inbound.to_wire())),
            Self::Outbound(outbound) => Some(wire::invalid::Meanwhile::Outbound(outbound.to_wire())),
            Self::Endpoints(_) => None,
        }
    }
}

/// Manifests may leave a pod's uid out.
fn is_pod(known: &str, uid: &str) -> bool {
    known.is_empty() || known == uid
}
