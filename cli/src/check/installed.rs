//! What should hold where Conduit is installed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::before::{Version, kubernetes_version, new_enough};
use super::finding::{Check, Fact, Group, Verdict, on};
use crate::certificate::{self, span};

/// Below this, whatever its life, a certificate that signs others is nearly at its end.
const SOON: SignedDuration = SignedDuration::from_hours(60 * 24);

/// The life of a signing certificate that is the user's own, of which only the end is known: cert-manager's default.
const LIFE_OF_FOREIGN: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Clocks that are further apart make certificates that are not valid yet.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// How often a node renews its Lease.
const LEASE: SignedDuration = SignedDuration::from_secs(10);

/// The webhooks of the chart.
const WEBHOOKS: [&str; 3] = ["namespace.injector.conduit.io", "pod.injector.conduit.io", "validator.conduit.io"];

/// What the checks look at.
pub(crate) struct Facts {
    pub(crate) version: Fact<Version>,
    /// None where there is no Deployment of it.
    pub(crate) operator: Fact<Option<Operator>>,
    /// The certificates in the `caBundle` of each webhook, in PEM; none where it is empty.
    pub(crate) webhooks: Fact<BTreeMap<String, Option<String>>>,
    pub(crate) admission: Fact<Admission>,
    /// Every definition that Conduit has.
    pub(crate) definitions: Fact<Vec<(String, Definition)>>,
    /// The name of the Secret that root and issuer are in, and whether it is there.
    pub(crate) secret: Fact<(String, bool)>,
    /// When certificates expire, as the operator says: `root`, `issuer`, `webhook`.
    pub(crate) expirations: Fact<BTreeMap<String, Timestamp>>,
    pub(crate) bundles: Fact<Bundles>,
    pub(crate) clocks: Fact<Clocks>,
    pub(crate) now: Timestamp,
}

/// The operator's Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Operator {
    pub(crate) version: Option<String>,
    pub(crate) wanted: i32,
    pub(crate) ready: i32,
    pub(crate) arguments: Vec<String>,
}

/// What became of a pod that opted in and was made for trial only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Injected,
    NotInjected,
    /// The API server does not reach the webhook.
    Unreachable(String),
    /// Something else refuses such a pod.
    Refused(String),
}

/// How a CustomResourceDefinition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Definition {
    Missing,
    NotEstablished,
    /// Not as this version has it.
    Different,
    Current,
}

/// The trust bundle in the namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bundles {
    /// Namespaces that opted in.
    pub(crate) wanted: BTreeSet<String>,
    /// By namespace, in PEM.
    pub(crate) held: BTreeMap<String, String>,
}

/// What time it is, as several say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) here: Timestamp,
    pub(crate) server: Timestamp,
    /// When each node renewed its Lease, by its own clock.
    pub(crate) nodes: Vec<(String, Timestamp)>,
}

pub(crate) const GROUP: Group<Facts> = Group { name: "installation", checks: CHECKS };

const CHECKS: &[Check<Facts>] = &[
    kubernetes_version(|facts| new_enough(&facts.version)),
    Check {
        id: "operator-ready",
        title: "the operator is ready",
        hint: "kubectl describe pods -n conduit -l app.kubernetes.io/name=conduit-operator",
        explanation: "While no replica is ready, pods that opted in are not made, and what changes does not reach proxies; \
                      what runs goes on.",
        decide: |facts| on(&facts.operator, |operator| ready(operator.as_ref())),
    },
    Check {
        id: "versions-match",
        title: "the operator is of this command's version",
        hint: "use the command of the operator's version, or upgrade the operator with Helm",
        explanation: "A command of another version may look for what is not there, or miss what is.",
        decide: |facts| on(&facts.operator, |operator| same_version(operator.as_ref())),
    },
    Check {
        id: "crds-current",
        title: "the CustomResourceDefinitions are there and of this version",
        hint: "helm upgrade conduit helm/conduit -n conduit, which brings them along",
        explanation: "With definitions of another version, fields of a ServiceProfile or a TrafficPolicy are refused or \
                      silently dropped by the API server.",
        decide: |facts| on(&facts.definitions, |definitions| current(definitions)),
    },
    Check {
        id: "webhook-ca-bundle",
        title: "the API server can verify the webhooks",
        hint: "see the operator's log: it writes the caBundle itself, and needs `patch` on its webhook configurations",
        explanation: "The operator writes the authority of its serving certificate into the `caBundle` of each webhook and \
                      repairs it. Without it, pods that opted in are not made.",
        decide: |facts| on(&facts.webhooks, |webhooks| ca_bundles(webhooks, facts.now)),
    },
    Check {
        id: "webhook-reachable",
        title: "a pod that opts in gets a proxy",
        hint: "let the API server reach port 8443 of the operator's pods (network policies, firewalls of the nodes)",
        explanation: "Looked at by making a pod in the namespace `default` with the label `conduit.io/inject: enabled` as a \
                      dry run, which leaves nothing behind. It needs the right to create pods there.",
        decide: |facts| on(&facts.admission, admitted),
    },
    Check {
        id: "identity-secret",
        title: "the Secret of root and issuer is there",
        hint: "see the operator's log: it fills the Secret, and writes it back where it is deleted",
        explanation: "`conduit-identity`, or the one that `identity.issuer.existingSecret` names. Only whether it is there is \
                      looked at; keys are not read.",
        decide: |facts| on(&facts.secret, |(name, there)| secret(name, *there)),
    },
    Check {
        id: "root-valid",
        title: "the root is valid for long enough",
        hint: "for your own: renew it where it comes from; else see why the operator's log says that it does not rotate",
        explanation: "A warning from 60 days before its end, or from the last tenth of its life where that is shorter. \
                      Conduit rotates its own root by itself long before; a root that you gave is yours to renew. The \
                      operator's metric `conduit_identity_certificate_expiration_timestamp_seconds` is what is looked at.",
        decide: |facts| expiration(facts, "root", life(&facts.operator, "--root-lifetime")),
    },
    Check {
        id: "issuer-valid",
        title: "the issuer is valid for long enough",
        hint: "for your own: renew it where it comes from; else see why the operator's log says that it does not rotate",
        explanation: "As `root-valid`. Once the issuer has expired no proxy gets a certificate, and connections between pods \
                      fail as theirs expire, within a day.",
        decide: |facts| expiration(facts, "issuer", life(&facts.operator, "--issuer-lifetime")),
    },
    Check {
        id: "webhook-certificate-valid",
        title: "the webhooks' certificate is valid for long enough",
        hint: "for your own: renew it where it comes from; else see why the operator's log says that it does not rotate",
        explanation: "Pods that opted in are not made once it has expired. Conduit renews its own by itself; of one that you gave, a \
                      warning from nine days before its end.",
        decide: |facts| expiration(facts, "webhook", None),
    },
    Check {
        id: "trust-bundle-in-namespaces",
        title: "every namespace that opted in has the roots of the mesh",
        hint: "see the operator's log: it writes the ConfigMap conduit-trust-bundle, and repairs it",
        explanation: "A proxy reads the roots from the ConfigMap `conduit-trust-bundle` of its namespace when it starts. \
                      Without it the pod does not start; with other roots the proxy gets no identity.",
        decide: |facts| on(&facts.bundles, |held| bundles(held, facts.now)),
    },
    Check {
        id: "clock-skew",
        title: "clocks agree",
        hint: "let the nodes take their time from the same servers (NTP)",
        explanation: "A proxy's certificate begins five minutes before it is made: a clock that is further behind takes a new \
                      one for invalid. A difference of a minute is a warning. The clocks of this machine and of the nodes, by their Leases in \
                      `kube-node-lease`, are compared with the API server's.",
        decide: |facts| on(&facts.clocks, skew),
    },
];

fn ready(operator: Option<&Operator>) -> Verdict {
    match operator {
        None => {
            Verdict::Failed("there is no Deployment conduit-operator; is Conduit installed in this namespace?".into())
        }
        Some(Operator { ready: 0, .. }) => Verdict::Failed("no replica is ready".into()),
        Some(Operator { ready, wanted, .. }) if ready < wanted => {
            Verdict::Warning(format!("{ready} of {wanted} replicas are ready"))
        }
        Some(_) => Verdict::Passed,
    }
}

fn same_version(operator: Option<&Operator>) -> Verdict {
    let own = env!("CARGO_PKG_VERSION");
    match operator.and_then(|operator| operator.version.as_deref()) {
        Some(version) if version == own => Verdict::Passed,
        Some(other) => Verdict::Warning(format!("the operator is {other}, this command {own}")),
        None => Verdict::Unseen("the operator's version is not known".into()),
    }
}

fn current(definitions: &[(String, Definition)]) -> Verdict {
    let said = |wanted: Definition, words: &str| {
        let named = definitions.iter().filter(|(_, state)| *state == wanted);
        named.map(|(name, _)| format!("{name} {words}")).collect::<Vec<_>>()
    };
    let failed = [said(Definition::Missing, "is missing"), said(Definition::NotEstablished, "is not established")];
    let different = said(Definition::Different, "is of another version");
    Verdict::failed_if(failed.concat()).and(Verdict::warning_if(different))
}

fn ca_bundles(webhooks: &BTreeMap<String, Option<String>>, now: Timestamp) -> Verdict {
    let fault = |name: &&str| {
        let why = match webhooks.get(*name) {
            None => "is missing".to_owned(),
            Some(None) => "has no caBundle".to_owned(),
            Some(Some(pem)) => match certificate::read(pem) {
                Err(error) => format!("has a caBundle that cannot be read: {error}"),
                Ok(all) if all.iter().all(|one| !one.left(now).is_positive()) => "has an expired caBundle".to_owned(),
                Ok(_) => return None,
            },
        };
        Some(format!("webhook {name} {why}"))
    };
    Verdict::failed_if(WEBHOOKS.iter().filter_map(fault).collect())
}

fn admitted(admission: &Admission) -> Verdict {
    match admission {
        Admission::Injected => Verdict::Passed,
        Admission::NotInjected => Verdict::Failed("the pod came back without a proxy".into()),
        Admission::Unreachable(reason) => Verdict::Failed(reason.clone()),
        Admission::Refused(reason) => Verdict::Unseen(format!("could not be tried: {reason}")),
    }
}

fn secret(name: &str, there: bool) -> Verdict {
    if there { Verdict::Passed } else { Verdict::Failed(format!("there is no Secret {name}")) }
}

/// How long a certificate of the operator's own is made for; none where it is the user's.
fn life(operator: &Fact<Option<Operator>>, flag: &str) -> Option<SignedDuration> {
    let made_for = operator.as_ref().ok()?.as_ref()?.argument(flag)?.parse().ok();
    made_for.filter(|_| !is_users(operator, "--issuer-secret"))
}

/// Whether a flag names a Secret of the user's own.
fn is_users(operator: &Fact<Option<Operator>>, flag: &str) -> bool {
    let Ok(Some(operator)) = operator else { return false };
    operator.argument(flag).is_some_and(|name| !name.is_empty())
}

fn expiration(facts: &Facts, certificate: &str, life: Option<SignedDuration>) -> Verdict {
    on(&facts.expirations, |expirations| match expirations.get(certificate) {
        None => Verdict::Unseen(format!("the operator does not say when the {certificate} certificate expires")),
        Some(end) => {
            let left = end.duration_since(facts.now);
            let enough = match certificate {
                // Conduit renews it shortly before its end.
                "webhook" if !is_users(&facts.operator, "--webhook-certificate-secret") => SignedDuration::ZERO,
                _ => (life.unwrap_or(LIFE_OF_FOREIGN) / 10).min(SOON),
            };
            match () {
                () if !left.is_positive() => Verdict::Failed(format!("it expired {} ago, at {end}", span(left))),
                () if left < enough => Verdict::Warning(format!("it expires in {}, at {end}", span(left))),
                () => Verdict::Passed,
            }
        }
    })
}

fn bundles(bundles: &Bundles, now: Timestamp) -> Verdict {
    let missing = bundles.wanted.iter().filter(|namespace| !bundles.held.contains_key(*namespace));
    let missing = missing.map(|namespace| format!("namespace {namespace} has none")).collect();
    let unusable = bundles.held.iter().filter_map(|(namespace, pem)| match certificate::read(pem) {
        Err(error) => Some(format!("that of namespace {namespace}: {error}")),
        Ok(roots) if roots.iter().all(|root| !root.left(now).is_positive()) => {
            Some(format!("all roots in namespace {namespace} have expired"))
        }
        Ok(_) => None,
    });
    let mut said = BTreeMap::<&str, Vec<&str>>::new();
    for (namespace, pem) in &bundles.held {
        said.entry(pem).or_default().push(namespace);
    }
    let usual = said.values().map(Vec::len).max();
    let mut groups: Vec<_> = said.into_values().collect();
    // One of the largest groups is right; which, if there are two, does not matter to whoever has to look.
    if let Some(index) = groups.iter().position(|group| Some(group.len()) == usual) {
        groups.remove(index);
    }
    let differing = groups.concat();
    let differing = if differing.is_empty() {
        Verdict::Passed
    } else {
        Verdict::Warning(format!("other roots than elsewhere in: {}", differing.join(", ")))
    };
    Verdict::failed_if(missing).and(Verdict::failed_if(unusable.collect())).and(differing)
}

fn skew(clocks: &Clocks) -> Verdict {
    let here = clocks.here.duration_since(clocks.server);
    let mut faults = Vec::new();
    if here.abs() > SKEW {
        let side = if here.is_positive() { "ahead of" } else { "behind" };
        faults.push(format!("this machine is {} {side} the API server", span(here)));
    }
    for (node, renewed) in &clocks.nodes {
        let ahead = renewed.duration_since(clocks.server);
        if ahead > SKEW {
            faults.push(format!("node {node} is {} ahead of the API server", span(ahead)));
        } else if -ahead > SKEW + LEASE {
            faults.push(format!("node {node} is {} behind the API server, or does not answer", span(ahead)));
        }
    }
    Verdict::warning_if(faults)
}

impl Operator {
    /// The value of a flag, as the chart gives it.
    pub(crate) fn argument(&self, flag: &str) -> Option<&str> {
        self.arguments.iter().find_map(|argument| argument.strip_prefix(flag)?.strip_prefix('='))
    }
}

#[cfg(test)]
#[path = "installed_tests.rs"]
mod tests;
