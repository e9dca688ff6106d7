//! What should hold for the proxies of a namespace. Pure.

use std::collections::BTreeMap;

use conduit_operator::inject::Skip;
use jiff::Timestamp;

use super::finding::{Check, Fact, Group, Verdict, on};
use crate::certificate::{self, Certificate, same_fingerprint, span};
use crate::identity::Identity;

/// The part of a certificate's life after which its renewal is late.
const LATE: f64 = 0.85;

/// What the checks look at.
pub(crate) struct Facts {
    pub(crate) pods: Fact<Vec<Pod>>,
    /// Of the operator.
    pub(crate) version: Fact<Option<String>>,
    /// What proxies said of their identities.
    pub(crate) identities: Vec<Identity>,
    /// Whether proxies hold the operator's stream.
    pub(crate) streams: Vec<(String, Stream)>,
    /// Proxies that did not answer, and why.
    pub(crate) silent: BTreeMap<String, String>,
    /// The roots of the mesh in the namespace, in PEM.
    pub(crate) bundle: Fact<Option<String>>,
    /// What users wrote there.
    pub(crate) objects: Fact<Vec<Object>>,
    pub(crate) now: Timestamp,
}

/// A pod that lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) meshed: bool,
    /// Its namespace or itself asks for a proxy.
    pub(crate) opted_in: bool,
    pub(crate) proxy_ready: bool,
    /// Of its proxy.
    pub(crate) version: Option<String>,
    /// Why a pod like this is left alone.
    pub(crate) skip: Option<Skip>,
}

/// A proxy's connection to the operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stream {
    pub(crate) connected: bool,
    /// Seconds since what is in force was last known to be the newest.
    pub(crate) age: Option<f64>,
}

/// A ServiceProfile or a TrafficPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Kind and name.
    pub(crate) name: String,
    /// Conditions that are not true: type, status, message.
    pub(crate) untrue: Vec<(String, String, String)>,
}

pub(crate) const GROUP: Group<Facts> = Group { name: "proxies", checks: CHECKS };

const CHECKS: &[Check<Facts>] = &[
    Check {
        id: "proxy-ready",
        title: "every proxy is ready",
        hint: "kubectl logs <pod> -c conduit-proxy, which says what it waits for",
        explanation: "A proxy is ready once its ports are bound and it has its identity; until then the pod's own containers \
                      do not start.",
        decide: |facts| on(&facts.pods, |pods| ready(pods)),
    },
    Check {
        id: "skipped-pods",
        title: "every pod that should have a proxy has one",
        hint: "restart what is older than the label: kubectl rollout restart deployment -n <namespace>",
        explanation: "Pods are meshed when they are made. What pods without a proxy send and receive is plaintext.",
        decide: |facts| on(&facts.pods, |pods| skipped(pods)),
    },
    Check {
        id: "proxy-versions-match",
        title: "proxies are of the operator's version",
        hint: "restart the pods to give them the operator's version: kubectl rollout restart deployment -n <namespace>",
        explanation: "An upgrade leaves running pods alone. Older proxies go on working, without what is new.",
        decide: |facts| on(&facts.pods, |pods| on(&facts.version, |version| versions(pods, version.as_deref()))),
    },
    Check {
        id: "proxy-identity-valid",
        title: "every proxy has an identity that is valid and renewed in time",
        hint: "conduit identity <pod> and the operator's log say why no certificate is issued",
        explanation: "A certificate lives for a day and is renewed at 70 % of it. A warning from 85 % on, or where the last \
                      attempt failed. Once it has expired, its proxy opens and takes no connections of the mesh.",
        decide: |facts| on(&facts.pods, |_| identities(facts)),
    },
    Check {
        id: "proxy-trusts-current-root",
        title: "every proxy trusts the root that signs now",
        hint: "see whether the proxy is connected to the operator, from which it hears of new roots",
        explanation: "The first root of the ConfigMap `conduit-trust-bundle` is compared with what each proxy says that it \
                      trusts. While a rotation is under way a proxy may have it in another place of its list for a moment, \
                      which is a warning.",
        decide: |facts| on(&facts.pods, |_| on(&facts.bundle, |bundle| roots(bundle.as_deref(), facts))),
    },
    Check {
        id: "proxy-config-acknowledged",
        title: "every proxy is connected to the operator and has its configuration",
        hint: "kubectl logs <pod> -c conduit-proxy says why the operator is not reached (port 8086)",
        explanation: "A proxy that is not connected keeps what it was told last; changes do not reach it.",
        decide: |facts| on(&facts.pods, |_| streams(facts)),
    },
    Check {
        id: "policies-accepted",
        title: "every ServiceProfile and TrafficPolicy is accepted and in force",
        hint: "kubectl describe sp,tp -n <namespace> says what is wrong, with the field",
        explanation: "A condition `Accepted` or `ResolvedRefs` that is false is a failure; `Programmed` that is not true, a \
                      warning: some proxy has not acknowledged the object's newest form yet.",
        decide: |facts| on(&facts.objects, |objects| accepted(objects)),
    },
];

fn ready(pods: &[Pod]) -> Verdict {
    if !pods.iter().any(|pod| pod.meshed) {
        return Verdict::Warning("no pod of the namespace has a proxy".into());
    }
    let waiting = pods.iter().filter(|pod| pod.meshed && !pod.proxy_ready);
    Verdict::failed_if(waiting.map(|pod| format!("that of {} is not", pod.name)).collect())
}

fn skipped(pods: &[Pod]) -> Verdict {
    let skipped = pods.iter().filter(|pod| pod.opted_in && !pod.meshed && pod.skip != Some(Skip::OptedOut));
    let why = |pod: &Pod| match pod.skip {
        Some(skip) => format!("{}: {skip}", pod.name),
        None => format!("{}: older than the label, or made while the webhook was not there", pod.name),
    };
    Verdict::warning_if(skipped.map(why).collect())
}

fn versions(pods: &[Pod], operator: Option<&str>) -> Verdict {
    let Some(operator) = operator else { return Verdict::Unseen("the operator's version is not known".into()) };
    let other = pods.iter().filter(|pod| pod.meshed && pod.version.as_deref() != Some(operator));
    let said = |pod: &Pod| {
        let version = pod.version.as_deref().unwrap_or("of no known version");
        format!("that of {} is {version}, the operator {operator}", pod.name)
    };
    Verdict::warning_if(other.map(said).collect())
}

fn identities(facts: &Facts) -> Verdict {
    let judged = facts.identities.iter().map(|identity| {
        let name = &identity.pod;
        let error = identity.last_renewal_error.as_ref();
        let Some(own) = identity.certificate() else {
            let why = error.map_or_else(String::new, |error| format!(": {error}"));
            return Verdict::Failed(format!("{name} has none yet{why}"));
        };
        let left = own.left(facts.now);
        match error {
            _ if !left.is_positive() => Verdict::Failed(format!("that of {name} expired {} ago", span(left))),
            Some(error) => Verdict::Warning(format!("that of {name} ends in {}: {error}", span(left))),
            None if late(own, facts.now) => {
                Verdict::Warning(format!("that of {name} ends in {} and should have been renewed", span(left)))
            }
            None => Verdict::Passed,
        }
    });
    judged.fold(silent(facts), Verdict::and)
}

fn late(certificate: &Certificate, now: Timestamp) -> bool {
    now > certificate.not_before + certificate.life().mul_f64(LATE)
}

fn roots(bundle: Option<&str>, facts: &Facts) -> Verdict {
    let Some(bundle) = bundle else {
        return Verdict::Failed("the namespace has no ConfigMap conduit-trust-bundle".into());
    };
    let current = match certificate::read(bundle) {
        Ok(roots) => roots.into_iter().next(),
        Err(error) => return Verdict::Failed(format!("ConfigMap conduit-trust-bundle: {error}")),
    };
    let Some(current) = current else { return Verdict::Failed("ConfigMap conduit-trust-bundle is empty".into()) };
    // One without an identity has no roots either, which another check tells.
    let certified = facts.identities.iter().filter(|identity| identity.certificate().is_some());
    let judged = certified.map(|identity| {
        let roots = &identity.trust_roots;
        match roots.iter().position(|root| same_fingerprint(&root.fingerprint, &current.fingerprint)) {
            Some(0) => Verdict::Passed,
            Some(_) => Verdict::Warning(format!("to {} another root is the one that signs", identity.pod)),
            None => Verdict::Failed(format!("{} does not trust {}", identity.pod, current.subject)),
        }
    });
    judged.fold(silent(facts), Verdict::and)
}

fn streams(facts: &Facts) -> Verdict {
    let apart = facts.streams.iter().filter(|(_, stream)| !stream.connected);
    let said = |(pod, stream): &(String, Stream)| match stream.age {
        Some(age) => format!("{pod} is not connected; its configuration was the newest {age:.0} s ago"),
        None => format!("{pod} is not connected, and has no configuration"),
    };
    silent(facts).and(Verdict::warning_if(apart.map(said).collect()))
}

fn silent(facts: &Facts) -> Verdict {
    let said: Vec<_> = facts.silent.iter().map(|(pod, why)| format!("{pod} did not answer: {why}")).collect();
    if said.is_empty() { Verdict::Passed } else { Verdict::Unseen(said.join("\n")) }
}

fn accepted(objects: &[Object]) -> Verdict {
    let said = |wanted: fn(&str) -> bool| {
        let conditions =
            objects.iter().flat_map(|object| object.untrue.iter().map(move |condition| (object, condition)));
        let wanted = conditions.filter(|(_, (kind, _, _))| wanted(kind));
        wanted
            .map(|(object, (kind, status, why))| format!("{}: {kind}={status}: {why}", object.name))
            .collect::<Vec<_>>()
    };
    let refused = said(|kind| matches!(kind, "Accepted" | "ResolvedRefs"));
    Verdict::failed_if(refused).and(Verdict::warning_if(said(|kind| kind == "Programmed")))
}

#[cfg(test)]
#[path = "proxies_tests.rs"]
mod tests;
