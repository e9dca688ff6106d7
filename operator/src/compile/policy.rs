//! Which TrafficPolicy has the say on a port.
//!
//! The more specific target wins: a Service's port, then the Service, then (inbound only) pods by their labels, then the
//! namespace. On one level the client's namespace wins over the Service's, then the oldest policy, then its name. A
//! policy that cannot be read has the say that it would have if it could be: nothing is known then.

use super::{Trace, Unreadable, programmed::Source};
use crate::index::{
    Fact, Pod, Service, View,
    declared::{Policy, PolicyTarget, TargetedPolicy},
    service::ServicePort,
};
use conduit_model::Protocol;
use kube::core::SelectorExt;
use std::cmp::Reverse;

/// A level of targets, the most specific last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Namespace,
    Pods,
    Service,
    Port,
}

/// The protocol that policies declare for clients in `client` of a Service's port.
pub(super) fn outbound_protocol(
    view: &View,
    client: &str,
    service: &Service,
    port: &ServicePort,
    trace: &mut Trace,
) -> Result<Option<Protocol>, Unreadable> {
    let producer = &service.name.namespace;
    trace.depends_on(Fact::Service(service.name.clone()));
    trace.depends_on(Fact::Namespace(producer.clone()));
    trace.depends_on(Fact::Namespace(client.to_owned()));
    let on_service = view.policies_on(&service.name).filter_map(|p| Some((service_level(p, service, port)?, false, p)));
    let mut wide = vec![producer.as_str()];
    if client != producer {
        wide.push(client);
    }
    let on_namespace = wide.into_iter().flat_map(|namespace| {
        let policies = view.policies_in(namespace).filter(|p| p.targets.contains(&PolicyTarget::Namespace));
        policies.map(move |p| (Level::Namespace, namespace == client, p))
    });
    decide(on_service.chain(on_namespace), |policy| policy.outbound_protocol, trace)
}

/// The protocol that policies declare for connections to a port of a pod, of which `services` are the Services and
/// their ports that lead to it.
pub(super) fn inbound_protocol(
    view: &View,
    pod: &Pod,
    services: &[(&Service, &ServicePort)],
    trace: &mut Trace,
) -> Result<Option<Protocol>, Unreadable> {
    trace.depends_on(Fact::Namespace(pod.name.namespace.clone()));
    let on_services = services.iter().flat_map(|(service, port)| {
        view.policies_on(&service.name).filter_map(|p| Some((service_level(p, service, port)?, false, p)))
    });
    let wide = view.policies_in(&pod.name.namespace).filter_map(|p| Some((pod_level(p, pod)?, false, p)));
    decide(on_services.chain(wide), |policy| policy.inbound_protocol, trace)
}

fn service_level(policy: &TargetedPolicy, service: &Service, port: &ServicePort) -> Option<Level> {
    let levels = policy.targets.iter().filter_map(|target| match target {
        PolicyTarget::Service { name, port: None } if *name == service.name.name => Some(Level::Service),
        PolicyTarget::Service { name, port: Some(section) } if *name == service.name.name && *section == port.name => {
            Some(Level::Port)
        }
        _ => None,
    });
    levels.max()
}

fn pod_level(policy: &TargetedPolicy, pod: &Pod) -> Option<Level> {
    let levels = policy.targets.iter().filter_map(|target| match target {
        PolicyTarget::Pods(selector) => selector.matches(&pod.labels).then_some(Level::Pods),
        PolicyTarget::Namespace => Some(Level::Namespace),
        PolicyTarget::Service { .. } | PolicyTarget::Unsupported { .. } => None,
    });
    levels.max()
}

/// What the policy with the say sets. Policies that set nothing here have none; those that it overrides are told apart,
/// so that their status does not claim an effect.
fn decide<'a>(
    candidates: impl Iterator<Item = (Level, bool, &'a TargetedPolicy)>,
    field: impl Fn(&Policy) -> Option<Protocol>,
    trace: &mut Trace,
) -> Result<Option<Protocol>, Unreadable> {
    let says = |policy: &Policy| field(policy).is_some();
    let mut candidates: Vec<_> =
        candidates.filter(|(_, _, targeted)| targeted.policy.value.as_ref().is_none_or(says)).collect();
    candidates.sort_by_key(|(level, consumer, targeted)| {
        (Reverse((*level, *consumer)), targeted.policy.created, &targeted.policy.name)
    });
    let mut candidates = candidates.into_iter().map(|(_, _, TargetedPolicy { policy, .. })| policy);
    let Some(policy) = candidates.next() else { return Ok(None) };
    trace.made_from(Source::policy(policy));
    // A policy with two targets can be a candidate twice, and does not override itself.
    let others = candidates.map(Source::policy).filter(|other| *other != Source::policy(policy));
    others.for_each(|other| trace.passed_over(other));
    match &policy.value {
        Some(value) => Ok(field(value)),
        None => Err(Unreadable {
            object: format!("trafficpolicy/{}", policy.name),
            reason: policy.unreadable().unwrap_or_default(),
        }),
    }
}
