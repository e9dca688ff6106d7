//! What one stream has subscribed to and been sent, and from that what to send next.
//!
//! No I/O and no clock: requests go in, responses come out. Dropping a session ends its subscriptions.

use super::{
    mailbox::{Mailbox, Part, Slot},
    metrics::{Metrics, RequestRefusal, UpdateKind},
    snapshot::{Content, Resource, Snapshot, TopicKey},
    topics::{Answer, StreamId, Topics},
};
use crate::{credential::ProvenWorkload, index::ObjectName};
use conduit_model::{EndpointSet, EndpointUpdate, Target, Version, wire};
use std::{collections::HashMap, sync::Arc};

pub(super) struct Session {
    id: StreamId,
    topics: Arc<Topics>,
    metrics: Metrics,
    workload: ProvenWorkload,
    client: Arc<str>,
    mailbox: Arc<Mailbox>,
    limit: usize,
    subscriptions: HashMap<Slot, Subscription>,
    /// Versions of endpoints that the proxy named before it was known whether it needs endpoints.
    named_endpoints: HashMap<Target, Version>,
}

/// What a stream was sent of one topic.
struct Subscription {
    key: Arc<TopicKey>,
    held: Held,
    /// Why the proxy was told last that there is nothing newer to tell.
    invalid: Option<(String, Version)>,
}

/// What the proxy holds of a topic, as far as this stream knows.
enum Held {
    Nothing,
    /// It came with this.
    Named(Version),
    /// It was sent this; of endpoints, the next update is the difference to it.
    Sent(Arc<Snapshot>),
    /// It was sent this, and holds something from before instead.
    Refused(Version),
}

/// Why a request ends its stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    #[error("what was sent is no request: {0}")]
    NoRequest(String),
    #[error("{0}")]
    Unreadable(#[from] conduit_model::WireError),
    #[error("{0}: is required")]
    Missing(&'static str),
    #[error("a stream subscribes to at most {0} targets")]
    TooMany(usize),
}

impl Session {
    pub(super) fn new(
        id: StreamId,
        topics: Arc<Topics>,
        metrics: Metrics,
        workload: ProvenWorkload,
        limit: usize,
    ) -> Self {
        metrics.streams.inc();
        Self {
            id,
            client: workload.namespace().into(),
            topics,
            metrics,
            workload,
            mailbox: Arc::default(),
            limit,
            subscriptions: HashMap::new(),
            named_endpoints: HashMap::new(),
        }
    }

    /// Where the session hears of news.
    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Carries out what the proxy asks. An error ends the stream.
    pub(super) fn request(&mut self, request: wire::WatchRequest) -> Result<(), RequestError> {
        self.carry_out(request).map_err(|error| self.refuse(error))
    }

    /// Counts and logs what ends the stream.
    pub(super) fn refuse(&self, error: RequestError) -> RequestError {
        self.metrics.refused(match error {
            RequestError::NoRequest(_) | RequestError::Unreadable(_) => RequestRefusal::unreadable,
            RequestError::Missing(_) => RequestRefusal::incomplete,
            RequestError::TooMany(_) => RequestRefusal::too_many,
        });
        tracing::warn!(
            workload = %format_args!("{}/{}", self.workload.namespace(), self.workload.pod()),
            %error, "a proxy's stream ends for what it sent"
        );
        error
    }

    fn carry_out(&mut self, request: wire::WatchRequest) -> Result<(), RequestError> {
        use wire::watch_request::Message;
        match request.message.ok_or(RequestError::Missing("message"))? {
            Message::Subscribe(subscribe) => self.subscribe(subscribe),
            Message::Unsubscribe(unsubscribe) => {
                self.unsubscribe(target(unsubscribe.target)?);
                Ok(())
            }
            Message::Acknowledge(acknowledge) => self.acknowledge(acknowledge),
        }
    }

    /// The next thing to send; none where the proxy knows all there is to know.
    pub(super) fn next(&mut self) -> Option<wire::WatchResponse> {
        while let Some(slot) = self.mailbox.take() {
            if let Some(response) = self.news(slot) {
                return Some(response);
            }
        }
        None
    }

    fn subscribe(&mut self, subscribe: wire::Subscribe) -> Result<(), RequestError> {
        let target = target(subscribe.target)?;
        let known = self.subscriptions.contains_key(&(target, Part::Config));
        if !known {
            if self.targets() >= self.limit {
                return Err(RequestError::TooMany(self.limit));
            }
            self.metrics.subscriptions.inc();
        }
        // Again for a target means that the proxy holds something else than it was sent.
        self.forget((target, Part::Endpoints));
        self.named_endpoints.remove(&target);
        if let Some(version) = Version::from_bytes(&subscribe.endpoints_version) {
            self.named_endpoints.insert(target, version);
        }
        let key = match target {
            Target::Inbound => TopicKey::Inbound {
                pod: ObjectName::new(self.workload.namespace(), self.workload.pod()),
                uid: self.workload.pod_uid().map(Into::into),
            },
            Target::Outbound(address) => TopicKey::Outbound { address, client: Arc::clone(&self.client) },
        };
        self.attach((target, Part::Config), key, Version::from_bytes(&subscribe.config_version));
        Ok(())
    }

    fn unsubscribe(&mut self, target: Target) {
        if self.forget((target, Part::Config)) {
            self.metrics.subscriptions.dec();
        }
        self.forget((target, Part::Endpoints));
        self.named_endpoints.remove(&target);
    }

    fn acknowledge(&mut self, acknowledge: wire::Acknowledge) -> Result<(), RequestError> {
        let target = target(acknowledge.target)?;
        let part = match wire::Resource::try_from(acknowledge.resource) {
            Ok(wire::Resource::Config) => Part::Config,
            Ok(wire::Resource::Endpoints) => Part::Endpoints,
            Ok(wire::Resource::Unspecified) | Err(_) => return Err(RequestError::Missing("resource")),
        };
        let version = Version::from_bytes(&acknowledge.version).ok_or(RequestError::Missing("version"))?;
        // An answer can cross an unsubscription.
        let Some(subscription) = self.subscriptions.get_mut(&(target, part)) else { return Ok(()) };
        let answer = if acknowledge.rejected.is_empty() {
            self.metrics.acks.inc();
            Answer::Holds(version)
        } else {
            self.metrics.nacks.inc();
            tracing::warn!(
                workload = %format_args!("{}/{}", self.workload.namespace(), self.workload.pod()),
                ?target, ?part, %version, reason = acknowledge.rejected,
                "a proxy refused an update"
            );
            match subscription.held.version() {
                // The same again would be refused again.
                Some(sent) if sent == version => subscription.held = Held::Refused(version),
                // What was sent since may have been the difference to what was refused.
                _ => {
                    subscription.held = Held::Nothing;
                    self.mailbox.add((target, part));
                }
            }
            Answer::Refused(version)
        };
        self.topics.answered(&subscription.key, self.id, answer);
        Ok(())
    }

    fn news(&mut self, slot: Slot) -> Option<wire::WatchResponse> {
        let subscription = self.subscriptions.get_mut(&slot)?;
        let current = self.topics.current(&subscription.key)?;
        let news = subscription.advance(&current);
        if let News::Held(version) = news {
            self.topics.answered(&subscription.key, self.id, Answer::Holds(version));
        }
        let (target, part) = slot;
        if let (Target::Outbound(address), Part::Config) = slot {
            let endpoints = (target, Part::Endpoints);
            if !current.needs_endpoints() {
                self.forget(endpoints);
            } else if !self.subscriptions.contains_key(&endpoints) {
                let held = self.named_endpoints.remove(&target);
                self.attach(endpoints, TopicKey::Endpoints { address }, held);
            }
        }
        let News::Update(version, update) = news else { return None };
        self.metrics.update(match (&update, part) {
            (wire::watch_response::Update::Invalid(_), _) => UpdateKind::invalid,
            (_, Part::Endpoints) => UpdateKind::endpoints,
            (_, Part::Config) if target == Target::Inbound => UpdateKind::inbound,
            (_, Part::Config) => UpdateKind::outbound,
        });
        Some(wire::WatchResponse { target: Some(target.to_wire()), version: version.to_bytes(), update: Some(update) })
    }

    fn attach(&mut self, slot: Slot, key: TopicKey, version: Option<Version>) {
        let key = Arc::new(key);
        self.topics.subscribe(&key, self.id, &self.mailbox, slot);
        self.subscriptions
            .insert(slot, Subscription { key, held: version.map_or(Held::Nothing, Held::Named), invalid: None });
    }

    fn forget(&mut self, slot: Slot) -> bool {
        let subscription = self.subscriptions.remove(&slot);
        if let Some(subscription) = &subscription {
            self.topics.unsubscribe(&subscription.key, self.id);
        }
        subscription.is_some()
    }

    fn targets(&self) -> usize {
        self.subscriptions.keys().filter(|(_, part)| *part == Part::Config).count()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let targets: Vec<_> = self.subscriptions.keys().map(|(target, _)| *target).collect();
        targets.into_iter().for_each(|target| self.unsubscribe(target));
        self.metrics.streams.dec();
    }
}

/// What a subscription makes of its topic's current state.
#[allow(clippy::large_enum_variant, reason = "lives for one call")]
enum News {
    /// The proxy was told so before.
    None,
    /// The proxy came with just this version.
    Held(Version),
    /// Send this.
    Update(Version, wire::watch_response::Update),
}

impl Held {
    fn version(&self) -> Option<Version> {
        match self {
            Self::Nothing => None,
            Self::Named(version) | Self::Refused(version) => Some(*version),
            Self::Sent(snapshot) => snapshot.version(),
        }
    }

    fn difference_to(&self, endpoints: &EndpointSet) -> EndpointUpdate {
        if let Self::Sent(snapshot) = self
            && let Some(sent) = snapshot.endpoints()
        {
            return EndpointUpdate::between(sent, endpoints);
        }
        EndpointUpdate::Whole(endpoints.iter().cloned().map(Arc::unwrap_or_clone).collect())
    }
}

impl Subscription {
    fn advance(&mut self, current: &Arc<Snapshot>) -> News {
        use wire::watch_response::Update;
        let (version, resource) = match &current.content {
            Content::Nothing => {
                self.held = Held::Nothing;
                return News::None;
            }
            Content::Invalid { reason, meanwhile, resource } => {
                let invalid = Some((reason.clone(), *meanwhile));
                if self.invalid == invalid {
                    return News::None;
                }
                self.invalid = invalid;
                let invalid = wire::Invalid { reason: reason.clone(), meanwhile: resource.meanwhile() };
                return News::Update(*meanwhile, Update::Invalid(invalid));
            }
            Content::Valid(version, resource) => (*version, resource),
        };
        self.invalid = None;
        if self.held.version() == Some(version) {
            return match self.held {
                Held::Named(_) => {
                    self.held = Held::Sent(Arc::clone(current));
                    News::Held(version)
                }
                Held::Nothing | Held::Sent(_) | Held::Refused(_) => News::None,
            };
        }
        let update = match resource {
            Resource::Inbound(inbound) => Update::Inbound(inbound.to_wire()),
            Resource::Outbound(outbound) => Update::Outbound(outbound.to_wire()),
            Resource::Endpoints(endpoints) => Update::Endpoints(self.held.difference_to(endpoints).to_wire()),
        };
        self.held = Held::Sent(Arc::clone(current));
        News::Update(version, update)
    }
}

fn target(message: Option<wire::Target>) -> Result<Target, RequestError> {
    Ok(Target::from_wire(message.ok_or(RequestError::Missing("target"))?)?)
}
