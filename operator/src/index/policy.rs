//! Reads a TrafficPolicy: its targets, the protocols that it declares, and what it says of TLS; every other block is named
//! as having no effect.
//!
//! Each block is taken apart field by field, so that a field that is added to the schema does not compile until somebody
//! has decided here what becomes of it.

use super::{
    created,
    declared::{Declared, Policy, PolicyTarget, TargetedPolicy},
    fault::Faults,
    name::ObjectName,
};
use conduit_crds::{
    TrafficPolicy, TrafficPolicySpec,
    traffic_policy::{
        Inbound, MAX_TARGETS, Mode, Outbound, ProtocolBlock, ProtocolType, TargetKind, TargetRef, Telemetry,
        inbound::{Mtls, MtlsMode},
        outbound::{OutboundTls, OutboundTlsMode as TlsMode},
    },
};
use conduit_model::{InboundMtlsMode, OutboundTlsMode, Protocol};
use kube::core::Selector;

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// Reads `policy`. Every fault is reported; the targets that can be read are there even if the rest cannot be, and so is
/// what it has a say on.
pub fn parse(policy: &TrafficPolicy) -> TargetedPolicy {
    let metadata = &policy.metadata;
    let name =
        ObjectName::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
    let mut faults = Faults::default();
    let TrafficPolicySpec { target_refs, mode, outbound, inbound, telemetry } = &policy.spec;
    let targets = read_targets(target_refs, &mut faults);
    if outbound.is_none() && inbound.is_none() && telemetry.is_none() {
        faults.invalid("spec", "must set at least one of outbound, inbound, telemetry");
    }
    let on_pods = target_refs.iter().any(|target| target.kind == TargetKind::Pod);
    if on_pods && (inbound.is_none() || outbound.is_some()) {
        faults.invalid("spec", "a target of kind Pod is for inbound only: must set inbound and not outbound");
    }
    // A policy that is only to be counted must not act.
    let acts = match mode {
        None | Some(Mode::Enforce) => true,
        Some(Mode::Audit) => {
            faults.unsupported("spec.mode");
            false
        }
    };
    let mut said = Policy::default();
    if let Some(outbound) = outbound {
        read_outbound(outbound, &mut said, &mut faults);
    }
    if let Some(inbound) = inbound {
        read_inbound(inbound, &mut said, &mut faults);
    }
    if let Some(telemetry) = telemetry {
        name_telemetry(telemetry, &mut faults);
    }
    let said = if acts { said } else { Policy::default() };
    let sets = said.blocks();
    let (value, faults) = faults.with(said);
    TargetedPolicy {
        targets,
        sets,
        policy: Declared {
            name,
            generation: metadata.generation.unwrap_or_default(),
            created: created(metadata),
            value,
            faults,
        },
    }
}

/// One target of a policy that cannot be read as a whole.
pub(super) fn target(target: &TargetRef) -> PolicyTarget {
    read_target("", target, &mut Faults::default())
}

fn read_targets(targets: &[TargetRef], faults: &mut Faults) -> Vec<PolicyTarget> {
    faults.check_length("spec.targetRefs", targets, MAX_TARGETS);
    let read = targets.iter().enumerate();
    read.map(|(i, target)| read_target(&format!("spec.targetRefs[{i}]"), target, faults)).collect()
}

fn read_target(path: &str, target: &TargetRef, faults: &mut Faults) -> PolicyTarget {
    let TargetRef { group, kind, name, section_name, selector } = target;
    let expected_group = match kind {
        TargetKind::Namespace | TargetKind::Service | TargetKind::Pod => "",
        TargetKind::HTTPRoute | TargetKind::GRPCRoute => GATEWAY_GROUP,
        TargetKind::ServiceProfile => conduit_crds::GROUP,
    };
    let group = group.as_deref().unwrap_or_default();
    if group != expected_group {
        faults.invalid(format!("{path}.group"), format!("must be {expected_group:?} for kind {kind}, was {group:?}"));
    }
    let named = !matches!(kind, TargetKind::Namespace | TargetKind::Pod);
    match (named, name.as_deref()) {
        (true, None | Some("")) => faults.invalid(format!("{path}.name"), format!("must be set for kind {kind}")),
        (false, Some(_)) => faults.invalid(format!("{path}.name"), format!("must not be set for kind {kind}")),
        (true, Some(_)) | (false, None) => {}
    }
    if !named && section_name.is_some() {
        faults.invalid(format!("{path}.sectionName"), format!("must not be set for kind {kind}"));
    }
    if *kind != TargetKind::Pod && selector.is_some() {
        faults.invalid(format!("{path}.selector"), format!("must not be set for kind {kind}"));
    }
    let name = name.clone().filter(|name| !name.is_empty());
    let target = match kind {
        TargetKind::Namespace => Some(PolicyTarget::Namespace),
        TargetKind::Service => name.map(|name| PolicyTarget::Service { name, port: section_name.clone() }),
        TargetKind::Pod => {
            let selector = match selector.clone().map(Selector::try_from) {
                None => Err("must be set for kind Pod".to_owned()),
                Some(Err(error)) => Err(format!("must be a label selector: {error}")),
                Some(Ok(selector)) if selector.selects_all() => Err("must not be empty".to_owned()),
                Some(Ok(selector)) => Ok(selector),
            };
            faults.check(&format!("{path}.selector"), selector).map(PolicyTarget::Pods)
        }
        TargetKind::HTTPRoute | TargetKind::GRPCRoute | TargetKind::ServiceProfile => {
            faults.unsupported(format!("{path}.kind"));
            name.map(|name| PolicyTarget::Unsupported {
                group: expected_group.into(),
                kind: kind.to_string(),
                name,
                section: section_name.clone(),
            })
        }
    };
    target.unwrap_or(PolicyTarget::Unreadable)
}

fn read_outbound(outbound: &Outbound, said: &mut Policy, faults: &mut Faults) {
    let Outbound {
        protocol,
        tls,
        timeouts,
        retry,
        retry_constraint,
        load_balancer,
        session_persistence,
        circuit_breaker,
        outlier_detection,
        fault_injection,
        rate_limit,
        response_classification,
    } = outbound;
    let unsupported = [
        ("timeouts", timeouts.is_some()),
        ("retry", retry.is_some()),
        ("retryConstraint", retry_constraint.is_some()),
        ("loadBalancer", load_balancer.is_some()),
        ("sessionPersistence", session_persistence.is_some()),
        ("circuitBreaker", circuit_breaker.is_some()),
        ("outlierDetection", outlier_detection.is_some()),
        ("faultInjection", fault_injection.is_some()),
        ("rateLimit", rate_limit.is_some()),
        ("responseClassification", response_classification.is_some()),
    ];
    name_unsupported("spec.outbound", &unsupported, faults);
    said.outbound_protocol = protocol.as_ref().map(|block| read_protocol("spec.outbound.protocol", block, faults));
    said.outbound_tls = tls.as_ref().map(|OutboundTls { mode }| match mode {
        TlsMode::Require => OutboundTlsMode::Require,
        TlsMode::Prefer => OutboundTlsMode::Prefer,
        TlsMode::Disable => OutboundTlsMode::Disable,
    });
}

fn read_inbound(inbound: &Inbound, said: &mut Policy, faults: &mut Faults) {
    let Inbound { mtls, protocol, authorization, rate_limit, limits } = inbound;
    let unsupported =
        [("authorization", authorization.is_some()), ("rateLimit", rate_limit.is_some()), ("limits", limits.is_some())];
    name_unsupported("spec.inbound", &unsupported, faults);
    said.inbound_protocol = protocol.as_ref().map(|block| read_protocol("spec.inbound.protocol", block, faults));
    said.inbound_mtls = mtls.as_ref().map(|Mtls { mode }| match mode {
        MtlsMode::Strict => InboundMtlsMode::Strict,
        MtlsMode::Permissive => InboundMtlsMode::Permissive,
        MtlsMode::Disable => InboundMtlsMode::Disable,
    });
}

fn name_telemetry(telemetry: &Telemetry, faults: &mut Faults) {
    let Telemetry { access_log, tracing, metrics } = telemetry;
    let unsupported =
        [("accessLog", access_log.is_some()), ("tracing", tracing.is_some()), ("metrics", metrics.is_some())];
    name_unsupported("spec.telemetry", &unsupported, faults);
}

fn read_protocol(path: &str, block: &ProtocolBlock, faults: &mut Faults) -> Protocol {
    let ProtocolBlock { protocol, detect_timeout } = block;
    if detect_timeout.is_some() {
        faults.unsupported(format!("{path}.detectTimeout"));
    }
    match protocol {
        ProtocolType::HTTP1 => Protocol::Http1,
        ProtocolType::HTTP2 => Protocol::Http2,
        ProtocolType::GRPC => Protocol::Grpc,
        ProtocolType::TLS => Protocol::Tls,
        ProtocolType::Opaque => Protocol::Opaque,
        ProtocolType::Detect => Protocol::Detect,
    }
}

fn name_unsupported(path: &str, blocks: &[(&str, bool)], faults: &mut Faults) {
    for (block, _) in blocks.iter().filter(|(_, set)| *set) {
        faults.unsupported(format!("{path}.{block}"));
    }
}

#[cfg(test)]
mod tests;
