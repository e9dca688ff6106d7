//! What is subscribed to, what is held of it, and what follows from each event. Pure: no stream, no clock read;
//! [`super::client`] carries the consequences out. How many destinations there are the directory bounds.
//!
//! # Endpoints, and how they heal
//!
//! Within a stream endpoints come as changes, each upon what was sent before, and the first upon the version that the
//! proxy named when it subscribed. One change lost or misread would leave the set wrong for ever, so the version that
//! comes with a change is compared with the hash of the set that results. Where they differ the change is refused, what
//! was held stays in force, and the whole set is asked for by subscribing anew.
//!
//! The comparison only means something where both sides hash alike. An operator of a later version may say of an
//! endpoint what this proxy does not know and does not hash; asking again would not help, and refusing would cut the
//! proxy off from every change. So a whole set, complete by definition, is taken as it is; whether its hash is equal
//! decides whether the changes upon it are compared at all.

use crate::identity::TrustBundle;
use conduit_model::{
    EndpointSet, EndpointUpdate, Inbound, Outbound, OutboundTlsMode, Target, Version,
    wire::{self, invalid::Meanwhile, watch_response::Update as Message},
};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use tokio::time::Instant;

/// The subscriptions of this proxy.
#[derive(Debug)]
pub(super) struct Ledger {
    open: bool,
    inbound: Held,
    outbound: BTreeMap<SocketAddr, Held>,
}

/// What is held of one target.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// Version of the configuration in force, as the operator named it.
    pub(super) config: Option<Version>,
    /// Version of the endpoints in force, as the operator named it.
    pub(super) endpoints: Option<Version>,
    /// When either came into force.
    pub(super) changed: Option<Instant>,
    set: Arc<EndpointSet>,
    base: Base,
}

/// What the next change of endpoints would be made upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Base {
    /// The whole set was asked for and has not come.
    #[default]
    Awaited,
    /// The operator has sent what this proxy could not take: the next change shows that it goes on, and is time to ask.
    Lost,
    /// The set that is held, and whether the operator hashes it as this proxy does.
    Held { comparable: bool },
}

/// What follows from an event.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reaction {
    /// What to tell the operator, in this order.
    pub(super) send: Vec<wire::WatchRequest>,
    /// What comes into force.
    pub(super) apply: Option<Update>,
    /// What to count and log.
    pub(super) verdict: Option<Verdict>,
}

/// What comes into force.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Update {
    /// The proxy's own configuration, and the roots of the mesh where the operator tells them.
    Inbound(Arc<Inbound>, Option<Arc<TrustBundle>>),
    /// The same, of which counts only what is the pod's and the mesh's: what is known of ports stays.
    Surroundings(Arc<Inbound>, Option<Arc<TrustBundle>>),
    /// A destination's configuration.
    Outbound(SocketAddr, Arc<Outbound>),
    /// A destination's endpoints, all of them.
    Endpoints(SocketAddr, Arc<EndpointSet>),
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in force.
    Applied,
    /// It was refused; what was held stays in force.
    Rejected(String),
    /// The operator itself could not read what it is made from; what was held stays in force.
    Invalid(String),
    /// It is about something that is not subscribed to any more.
    Stale,
}

impl Ledger {
    /// Nothing is held, and no stream is open.
    pub(super) fn new() -> Self {
        Self { open: false, inbound: Held::default(), outbound: BTreeMap::new() }
    }

    /// A stream was opened: everything is subscribed to, naming what is held.
    pub(super) fn opened(&mut self) -> Reaction {
        self.open = true;
        let outbound = self.outbound.iter_mut().map(|(address, held)| (Target::Outbound(*address), held));
        let all = std::iter::once((Target::Inbound, &mut self.inbound)).chain(outbound);
        Reaction { send: all.map(|(target, held)| held.subscribe(target)).collect(), ..Reaction::default() }
    }

    /// The stream is gone; what is held stays in force.
    pub(super) fn closed(&mut self) {
        self.open = false;
    }

    /// A connection needs `address`.
    pub(super) fn wanted(&mut self, address: SocketAddr) -> Reaction {
        if self.outbound.contains_key(&address) {
            return Reaction::default();
        }
        let subscribe = self.outbound.entry(address).or_default().subscribe(Target::Outbound(address));
        Reaction { send: self.open.then_some(subscribe).into_iter().collect(), ..Reaction::default() }
    }

    /// Nothing has needed `address` for a while.
    pub(super) fn unused(&mut self, address: SocketAddr) -> Reaction {
        let held = self.outbound.remove(&address).is_some();
        let send = (held && self.open).then(|| unsubscribe(Target::Outbound(address)));
        Reaction { send: send.into_iter().collect(), ..Reaction::default() }
    }

    /// The operator sent a message.
    pub(super) fn told(&mut self, message: wire::WatchResponse, now: Instant) -> Reaction {
        let wire::WatchResponse { target, version, update } = message;
        let target = match target.map(Target::from_wire) {
            Some(Ok(target)) => target,
            Some(Err(e)) => return Reaction::rejected_unanswerably(format!("target.{e}")),
            None => return Reaction::rejected_unanswerably("target: is required".to_owned()),
        };
        let held = match target {
            Target::Inbound => Some(&mut self.inbound),
            Target::Outbound(address) => self.outbound.get_mut(&address),
        };
        let Some(held) = held else {
            return Reaction { verdict: Some(Verdict::Stale), ..Reaction::default() };
        };
        let resource = match update {
            Some(Message::Endpoints(_)) => wire::Resource::Endpoints,
            _ => wire::Resource::Config,
        };
        let answer = |rejected: String| acknowledge(target, resource, version.clone(), rejected);
        let Some(parsed) = Version::from_bytes(&version) else {
            let reason = format!("version: must have 16 bytes, had {}", version.len());
            return Reaction::rejected(vec![answer(reason.clone())], reason);
        };
        match held.take(target, parsed, update) {
            Taken::InForce(update) => {
                held.changed = Some(now);
                Reaction { send: vec![answer(String::new())], apply: Some(update), verdict: Some(Verdict::Applied) }
            }
            Taken::Refused(reason) => Reaction::rejected(vec![answer(reason.clone())], reason),
            Taken::Diverged(reason) => {
                let again = [answer(reason.clone()), unsubscribe(target), held.subscribe(target)];
                Reaction::rejected(again.into(), reason)
            }
            Taken::Invalid(update, reason) => {
                Reaction { send: Vec::new(), apply: update, verdict: Some(Verdict::Invalid(reason)) }
            }
        }
    }

    /// Whether a stream is open.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// How many destinations are subscribed to.
    pub(super) fn destinations(&self) -> usize {
        self.outbound.len()
    }

    /// What is held of the proxy's own configuration.
    pub(super) fn inbound(&self) -> &Held {
        &self.inbound
    }

    /// What is held of each destination.
    pub(super) fn outbound(&self) -> impl Iterator<Item = (SocketAddr, &Held)> {
        self.outbound.iter().map(|(address, held)| (*address, held))
    }
}

/// What one target made of a message.
enum Taken {
    InForce(Update),
    Refused(String),
    /// Refused, and the whole set of endpoints has to be asked for.
    Diverged(String),
    /// The operator could not read it; what nothing is held of takes what holds meanwhile.
    Invalid(Option<Update>, String),
}

impl Held {
    fn take(&mut self, target: Target, version: Version, update: Option<Message>) -> Taken {
        match (target, update) {
            (Target::Inbound, Some(Message::Inbound(message))) => {
                let read = read_inbound(message).map(|(inbound, bundle)| Update::Inbound(inbound, bundle));
                self.take_config(version, read)
            }
            (Target::Outbound(address), Some(Message::Outbound(message))) => {
                let read = Outbound::from_wire(message).map(|outbound| Update::Outbound(address, Arc::new(outbound)));
                self.take_config(version, read.map_err(|e| format!("outbound.{e}")))
            }
            (Target::Outbound(address), Some(Message::Endpoints(message))) => {
                self.take_endpoints(address, version, message)
            }
            (_, Some(Message::Invalid(wire::Invalid { reason, meanwhile }))) if self.config.is_some() => {
                match read_surroundings(target, meanwhile) {
                    Ok(update) => Taken::Invalid(update, reason),
                    Err(unreadable) => Taken::Invalid(None, format!("{reason}; meanwhile.{unreadable}")),
                }
            }
            (_, Some(Message::Invalid(wire::Invalid { reason, meanwhile }))) => match read_meanwhile(target, meanwhile)
            {
                Ok(update) => Taken::Invalid(update, reason),
                Err(unreadable) => Taken::Invalid(closed(target), format!("{reason}; meanwhile.{unreadable}")),
            },
            (_, None) => Taken::Refused("update: is required, and must be one that this proxy knows".to_owned()),
            (Target::Inbound, Some(_)) => Taken::Refused("update: must be one of an inbound target".to_owned()),
            (Target::Outbound(_), Some(_)) => Taken::Refused("update: must be one of an outbound target".to_owned()),
        }
    }

    fn take_config(&mut self, version: Version, read: Result<Update, String>) -> Taken {
        match read {
            Ok(update) => {
                self.config = Some(version);
                Taken::InForce(update)
            }
            Err(reason) => Taken::Refused(reason),
        }
    }

    fn take_endpoints(&mut self, address: SocketAddr, version: Version, message: wire::Endpoints) -> Taken {
        let update = match EndpointUpdate::from_wire(message) {
            Ok(update) => update,
            Err(e) => {
                self.base = Base::Lost;
                return Taken::Refused(format!("endpoints.{e}"));
            }
        };
        let whole = matches!(update, EndpointUpdate::Whole(_));
        let comparable = match (self.base, whole) {
            (_, true) => true,
            (Base::Held { comparable }, false) => comparable,
            (Base::Awaited, false) => {
                return Taken::Refused("endpoints: a change where the whole set was asked for".to_owned());
            }
            (Base::Lost, false) => {
                return Taken::Diverged("endpoints: a change upon what was refused".to_owned());
            }
        };
        let mut set = self.set.clone();
        update.apply(Arc::make_mut(&mut set));
        let equal = comparable && Version::of_endpoints(&set) == version;
        if comparable && !equal && !whole {
            self.base = Base::Lost;
            return Taken::Diverged(format!("endpoints: the change does not lead to version {version}"));
        }
        self.base = Base::Held { comparable: equal };
        self.endpoints = Some(version);
        self.set = set.clone();
        Taken::InForce(Update::Endpoints(address, set))
    }

    /// The request that subscribes to `target`, naming what is held of it; endpoints only where changes can follow.
    fn subscribe(&mut self, target: Target) -> wire::WatchRequest {
        let endpoints = match self.base {
            Base::Held { .. } => self.endpoints,
            Base::Awaited | Base::Lost => {
                self.base = Base::Awaited;
                None
            }
        };
        let bytes = |version: Option<Version>| version.map(Version::to_bytes).unwrap_or_default();
        request(wire::watch_request::Message::Subscribe(wire::Subscribe {
            target: Some(target.to_wire()),
            config_version: bytes(self.config),
            endpoints_version: bytes(endpoints),
        }))
    }
}

impl Reaction {
    fn rejected(send: Vec<wire::WatchRequest>, reason: String) -> Self {
        Self { send, apply: None, verdict: Some(Verdict::Rejected(reason)) }
    }

    /// A message that names no target that could be answered for.
    fn rejected_unanswerably(reason: String) -> Self {
        Self::rejected(Vec::new(), reason)
    }
}

/// An operator that has no roots yet tells none, and those that are held stay.
fn read_inbound(message: wire::Inbound) -> Result<(Arc<Inbound>, Option<Arc<TrustBundle>>), String> {
    let inbound = Inbound::from_wire(message).map_err(|e| format!("inbound.{e}"))?;
    let bundle = match inbound.trust_bundle.is_empty() {
        true => None,
        false => {
            let bundle =
                TrustBundle::from_der(&inbound.trust_bundle).map_err(|e| format!("inbound.trust_bundle{e}"))?;
            Some(Arc::new(bundle))
        }
    };
    Ok((Arc::new(inbound), bundle))
}

/// What a proxy that holds its own configuration takes while an object that it needs cannot be read: what hangs on no such
/// object. Neither a rotation of the roots nor the end of its pod passes it by.
fn read_surroundings(target: Target, meanwhile: Option<Meanwhile>) -> Result<Option<Update>, String> {
    match (target, meanwhile) {
        (Target::Inbound, Some(Meanwhile::Inbound(message))) => {
            read_inbound(message).map(|(inbound, bundle)| Some(Update::Surroundings(inbound, bundle)))
        }
        (Target::Inbound | Target::Outbound(_), _) => Ok(None),
    }
}

/// What a target of which nothing is held takes while its objects cannot be read. It is not acknowledged and has no
/// version: whatever comes next takes its place.
fn read_meanwhile(target: Target, meanwhile: Option<Meanwhile>) -> Result<Option<Update>, String> {
    Ok(match (target, meanwhile) {
        (Target::Inbound, Some(Meanwhile::Inbound(message))) => {
            let (inbound, bundle) = read_inbound(message)?;
            Some(Update::Inbound(inbound, bundle))
        }
        (Target::Outbound(address), Some(Meanwhile::Outbound(message))) => {
            let outbound = Outbound::from_wire(message).map_err(|e| format!("outbound.{e}"))?;
            Some(Update::Outbound(address, Arc::new(outbound)))
        }
        (target, None | Some(_)) => closed(target),
    })
}

/// What holds where nothing can be read: a destination gets nothing that could not be authenticated.
fn closed(target: Target) -> Option<Update> {
    match target {
        Target::Outbound(address) => {
            Some(Update::Outbound(address, Arc::new(Outbound::unknown(OutboundTlsMode::Require))))
        }
        Target::Inbound => None,
    }
}

fn acknowledge(target: Target, resource: wire::Resource, version: Vec<u8>, rejected: String) -> wire::WatchRequest {
    request(wire::watch_request::Message::Acknowledge(wire::Acknowledge {
        target: Some(target.to_wire()),
        resource: resource.into(),
        version,
        rejected,
    }))
}

fn unsubscribe(target: Target) -> wire::WatchRequest {
    request(wire::watch_request::Message::Unsubscribe(wire::Unsubscribe { target: Some(target.to_wire()) }))
}

fn request(message: wire::watch_request::Message) -> wire::WatchRequest {
    wire::WatchRequest { message: Some(message) }
}
