//! Which TrafficPolicy has the say on a block.
//!
//! The more specific target wins: a Service's port, then the Service, then (inbound only) pods by their labels, then the
//! namespace. On one level the client's namespace wins over the Service's, then the oldest policy, then its name. A
//! policy that cannot be read has the say that it would have if it could be: nothing is known then. What secures a
//! connection is closed until it can be; of the rest, the next that can be read is heard meanwhile.

use super::{Trace, Unreadable, programmed::Source};
use crate::index::{
    Fact, ObjectName, Pod, Service, View,
    declared::{Block, Declared, Policy, PolicyTarget, TargetedPolicy},
    service::ServicePort,
};
use conduit_model::{InboundMtls, InboundMtlsMode, ObjectRef, OutboundTls, OutboundTlsMode, Protocol};
use kube::core::SelectorExt;
use std::cmp::Reverse;

/// A level of targets, the most specific last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Namespace,
    Pods,
    Service,
    Port,
    /// It cannot be read which it is: any of them may be meant.
    Unknown,
}

/// What clients call, and from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    /// Namespace of the clients.
    pub client: &'a str,
    /// Namespace of what is called.
    pub producer: &'a str,
    /// The Services that it is or belongs to, all of that namespace, with their ports.
    pub services: &'a [(&'a Service, &'a ServicePort)],
}

/// A policy that has a block, and how near its target is.
struct Candidate<'a> {
    level: Level,
    /// It is of the client's own namespace.
    consumer: bool,
    policy: &'a Declared<Policy>,
}

/// What policies say on one block.
enum Say<T> {
    Nothing,
    This(T, ObjectRef),
    /// The policy with the say cannot be read. What the next one says that can be.
    Unreadable(ObjectRef, Option<T>),
}

/// The protocol that policies declare for what is called.
pub(super) fn outbound_protocol(view: &View, call: Call<'_>, trace: &mut Trace) -> Option<Protocol> {
    let candidates = of_call(view, call, Block::OutboundProtocol, trace);
    decide(candidates, |policy| policy.outbound_protocol, trace).unsecured()
}

/// Whether policies want clients to encrypt.
pub(super) fn outbound_tls(view: &View, call: Call<'_>, trace: &mut Trace) -> OutboundTls {
    let candidates = of_call(view, call, Block::OutboundTls, trace);
    tls_of(candidates, trace)
}

/// The same for a Service that stands for somebody who is no pod, such as the API server. Policies on namespaces are for
/// what can be meshed in them, and not for it; one that names the Service is.
pub(super) fn outbound_tls_outside(view: &View, call: Call<'_>, trace: &mut Trace) -> OutboundTls {
    let mut candidates = of_call(view, call, Block::OutboundTls, trace);
    candidates.retain(|candidate| candidate.level > Level::Namespace);
    tls_of(candidates, trace)
}

fn tls_of(candidates: Vec<Candidate<'_>>, trace: &mut Trace) -> OutboundTls {
    match decide(candidates, |policy| policy.outbound_tls, trace) {
        Say::Nothing => OutboundTls::DEFAULT,
        Say::This(mode, source) => OutboundTls { mode, source: Some(source) },
        Say::Unreadable(source, _) => OutboundTls { mode: OutboundTlsMode::Require, source: Some(source) },
    }
}

/// The protocol that policies declare for connections to a port of a pod.
pub(super) fn inbound_protocol(view: &View, pod: &Pod, port: u16, trace: &mut Trace) -> Option<Protocol> {
    let candidates = at_pod(view, pod, Some(port), Block::InboundProtocol, trace);
    decide(candidates, |policy| policy.inbound_protocol, trace).unsecured()
}

/// Whom policies let a pod serve: at this port, or at those of which nothing is known.
pub(super) fn inbound_mtls(view: &View, pod: &Pod, port: Option<u16>, trace: &mut Trace) -> InboundMtls {
    let candidates = at_pod(view, pod, port, Block::InboundMtls, trace);
    match decide(candidates, |policy| policy.inbound_mtls, trace) {
        Say::Nothing => InboundMtls::DEFAULT,
        Say::This(mode, source) => InboundMtls { mode, source: Some(source) },
        Say::Unreadable(source, _) => InboundMtls { mode: InboundMtlsMode::Strict, source: Some(source) },
    }
}

/// Whether a policy has clients send plaintext to a port of a pod. It is the clients' business in this case alone: who
/// else is served there is between the pod's own proxy and whoever comes.
pub(super) fn wants_plaintext(view: &View, pod: &Pod, port: u16, trace: &mut Trace) -> bool {
    let first = ranked(at_pod(view, pod, Some(port), Block::InboundMtls, trace)).into_iter().next();
    let disabled = |policy: &Policy| policy.inbound_mtls == Some(InboundMtlsMode::Disable);
    let by = first.filter(|policy| policy.value.as_ref().is_some_and(disabled));
    by.into_iter().for_each(|policy| trace.made_from(Source::policy(policy)));
    by.is_some()
}

/// The policies on what is called that have a block. All targets are in a policy's own namespace.
fn of_call<'a>(view: &'a View, call: Call<'_>, block: Block, trace: &mut Trace) -> Vec<Candidate<'a>> {
    let Call { client, producer, services } = call;
    services.iter().for_each(|(service, _)| trace.depends_on(Fact::Service(service.name.clone())));
    trace.depends_on(Fact::Namespace(producer.to_owned()));
    trace.depends_on(Fact::Namespace(client.to_owned()));
    let of_producer = having(view, producer, block).filter_map(|policy| {
        let level = most_specific(policy, |target| call_level(target, services))?;
        Some(Candidate { level, consumer: client == producer, policy: &policy.policy })
    });
    let of_consumer = having(view, client, block).filter(|_| client != producer).filter_map(|policy| {
        let level = most_specific(policy, |target| call_level(target, &[]))?;
        Some(Candidate { level, consumer: true, policy: &policy.policy })
    });
    of_producer.chain(of_consumer).collect()
}

fn having<'a>(view: &'a View, namespace: &str, block: Block) -> impl Iterator<Item = &'a TargetedPolicy> {
    view.policies_in(namespace).filter(move |policy| policy.sets.contains(&block))
}

fn call_level(target: &PolicyTarget, services: &[(&Service, &ServicePort)]) -> Option<Level> {
    match target {
        PolicyTarget::Namespace => Some(Level::Namespace),
        PolicyTarget::Unreadable => Some(Level::Unknown),
        PolicyTarget::Service { name, port: None } => {
            services.iter().any(|(service, _)| *name == service.name.name).then_some(Level::Service)
        }
        PolicyTarget::Service { name, port: Some(section) } => {
            let named =
                |(service, port): &(&Service, &ServicePort)| *name == service.name.name && *section == port.name;
            services.iter().any(named).then_some(Level::Port)
        }
        PolicyTarget::Pods(_) | PolicyTarget::Unsupported { .. } => None,
    }
}

/// The policies on a pod that have a block.
fn at_pod<'a>(view: &'a View, pod: &Pod, port: Option<u16>, block: Block, trace: &mut Trace) -> Vec<Candidate<'a>> {
    let namespace = &pod.name.namespace;
    trace.depends_on(Fact::Namespace(namespace.clone()));
    let candidates = having(view, namespace, block).filter_map(|policy| {
        let level = most_specific(policy, |target| pod_level(view, target, pod, port, trace))?;
        Some(Candidate { level, consumer: false, policy: &policy.policy })
    });
    candidates.collect()
}

fn pod_level(view: &View, target: &PolicyTarget, pod: &Pod, port: Option<u16>, trace: &mut Trace) -> Option<Level> {
    match target {
        PolicyTarget::Namespace => Some(Level::Namespace),
        PolicyTarget::Unreadable => Some(Level::Unknown),
        PolicyTarget::Pods(selector) => selector.matches(&pod.labels).then_some(Level::Pods),
        PolicyTarget::Service { name, port: section } => {
            let name = ObjectName::new(&pod.name.namespace, name);
            let service = view.service(&name).filter(|service| service.selects(&pod.labels));
            trace.depends_on(Fact::Service(name));
            let mut ports = service?.ports.iter();
            let leads = |known: &ServicePort| port.is_some() && pod.target(&known.target) == port;
            let level = if section.is_some() { Level::Port } else { Level::Service };
            let of_section = |known: &ServicePort| section.as_ref().is_none_or(|section| *section == known.name);
            ports.any(|known| of_section(known) && leads(known)).then_some(level)
        }
        PolicyTarget::Unsupported { .. } => None,
    }
}

fn most_specific(policy: &TargetedPolicy, level: impl FnMut(&PolicyTarget) -> Option<Level>) -> Option<Level> {
    policy.targets.iter().filter_map(level).max()
}

/// The policies, the one with the say first.
fn ranked(mut candidates: Vec<Candidate<'_>>) -> Vec<&Declared<Policy>> {
    candidates.sort_by_key(|Candidate { level, consumer, policy }| {
        (Reverse((*level, *consumer)), policy.created, &policy.name)
    });
    candidates.into_iter().map(|candidate| candidate.policy).collect()
}

/// What the policy with the say says. Those that it overrides are told apart, so that their status does not claim an
/// effect.
fn decide<T>(candidates: Vec<Candidate<'_>>, field: impl Fn(&Policy) -> Option<T>, trace: &mut Trace) -> Say<T> {
    let ranked = ranked(candidates);
    let Some((first, others)) = ranked.split_first() else { return Say::Nothing };
    let source = Source::policy(first);
    let object = source.object();
    trace.made_from(source);
    others.iter().for_each(|other| trace.passed_over(Source::policy(other)));
    let says = |policy: &&Declared<Policy>| policy.value.as_ref().and_then(&field);
    if first.value.is_none() {
        let reason = first.unreadable().unwrap_or_default();
        trace.cannot_read(Unreadable { object: object.to_string(), reason });
        return Say::Unreadable(object, others.iter().find_map(says));
    }
    says(first).map_or(Say::Nothing, |said| Say::This(said, object))
}

impl<T> Say<T> {
    /// What is said of a block that secures nothing.
    fn unsecured(self) -> Option<T> {
        match self {
            Self::Nothing => None,
            Self::This(said, _) => Some(said),
            Self::Unreadable(_, next) => next,
        }
    }
}
