//! What is said of an object: pure, from the object and the counts of the proxies that were told of it.

use super::replicas::Unknown;
use crate::{
    compile::{Programmed, Source, programmed::SourceKind},
    index::{
        ObjectName, View,
        declared::{Declared, PolicyTarget},
        fault::{Fault, FaultKind},
        profile,
    },
};
use conduit_crds::traffic_policy::{ParentReference, TrafficPolicyStatus, status::CONTROLLER_NAME};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use serde_json::Value;

/// The longest message; the API allows 32,768 bytes.
const MESSAGE_MAX: usize = 4096;

/// What a status says of one thing that the object is about; a ServiceProfile is about one thing alone and names none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ancestor {
    pub reference: Option<ParentReference>,
    pub conditions: Vec<Condition>,
}

/// An object, and what is to be said of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subject {
    pub source: Source,
    /// When it was created, in seconds since the epoch, which tells it from an earlier object of the same name.
    pub created: i64,
    pub drafts: Vec<Draft>,
}

/// What is to be said of one thing that the object is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    pub reference: Option<ParentReference>,
    pub verdicts: [Verdict; 3],
}

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub type_: &'static str,
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

/// What is to be said of every object.
pub(super) fn drafts(view: &View, count: impl Fn(&Source) -> Result<Programmed, Unknown>) -> Vec<Subject> {
    let profiles = view.profiles().map(|declared| {
        let source = Source::profile(declared);
        let service = profile::service(&declared.name.name, view.cluster_domain());
        let resolved = match service {
            Some(service) if view.service(&service).is_some() => resolved(),
            Some(service) => not_found(format!("Service {service} does not exist")),
            None => not_found("the profile's name is not that of a Service".into()),
        };
        let verdicts = [accepted(declared), resolved, programmed(declared, count(&source))];
        Subject { source, created: declared.created, drafts: vec![Draft { reference: None, verdicts }] }
    });
    let policies = view.policies().map(|targeted| {
        let declared = &targeted.policy;
        let source = Source::policy(declared);
        let (accepted, programmed) = (accepted(declared), programmed(declared, count(&source)));
        // A target that is named twice is one. A policy without any is at least its namespace's.
        let whole = [PolicyTarget::Namespace];
        let targets = if targeted.targets.is_empty() { &whole[..] } else { &targeted.targets };
        let mut drafts: Vec<Draft> = Vec::with_capacity(targets.len());
        for target in targets {
            let reference = Some(reference(target, &declared.name));
            if drafts.iter().all(|draft| draft.reference != reference) {
                let resolved = target_exists(view, target, &declared.name.namespace);
                drafts.push(Draft { reference, verdicts: [accepted.clone(), resolved, programmed.clone()] });
            }
        }
        Subject { source, created: declared.created, drafts }
    });
    profiles.chain(policies).collect()
}

/// The drafts as conditions. A condition whose status is as before keeps the time at which that began.
pub(super) fn settle(drafts: Vec<Draft>, generation: i64, before: &[Ancestor], now: Timestamp) -> Vec<Ancestor> {
    let settled = drafts.into_iter().map(|draft| {
        let before = before.iter().find(|ancestor| ancestor.reference == draft.reference);
        let earlier = |type_: &str| before?.conditions.iter().find(|condition| condition.type_ == type_);
        let conditions = draft.verdicts.into_iter().map(|verdict| {
            let same = earlier(verdict.type_).filter(|condition| condition.status == verdict.status);
            Condition {
                last_transition_time: same.map_or(Time(seconds(now)), |same| same.last_transition_time.clone()),
                message: verdict.message,
                observed_generation: Some(generation),
                reason: verdict.reason.into(),
                status: verdict.status.into(),
                type_: verdict.type_.into(),
            }
        });
        Ancestor { conditions: conditions.collect(), reference: draft.reference }
    });
    settled.collect()
}

/// What an object's status says, as far as it is this controller's. A status that cannot be read is written anew.
pub(super) fn read(kind: SourceKind, status: &Value) -> Vec<Ancestor> {
    match kind {
        SourceKind::ServiceProfile => match serde_json::from_value(status["conditions"].clone()) {
            Ok(conditions) => vec![Ancestor { reference: None, conditions }],
            Err(_) => Vec::new(),
        },
        SourceKind::TrafficPolicy => match serde_json::from_value::<TrafficPolicyStatus>(status.clone()) {
            Ok(status) => {
                let ours = status.ancestors.into_iter().filter(|ancestor| ancestor.controller_name == CONTROLLER_NAME);
                ours.map(|a| Ancestor { reference: Some(a.ancestor_ref), conditions: a.conditions }).collect()
            }
            Err(_) => Vec::new(),
        },
    }
}

fn accepted<T>(declared: &Declared<T>) -> Verdict {
    let verdict = |status, reason, message| Verdict { type_: "Accepted", status, reason, message };
    if declared.faults.is_empty() {
        return verdict("True", "Accepted", String::new());
    }
    let invalid = declared.faults.iter().any(|fault| fault.kind == FaultKind::Invalid);
    let reason = if invalid { "Invalid" } else { "UnsupportedField" };
    verdict("False", reason, shortened(declared.faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")))
}

fn programmed<T>(declared: &Declared<T>, counted: Result<Programmed, Unknown>) -> Verdict {
    let verdict = |status, reason, message| Verdict { type_: "Programmed", status, reason, message };
    let Programmed { proxies, current, rejected, overridden } = match counted {
        Ok(programmed) => programmed,
        Err(Unknown { reason, message }) => return verdict("Unknown", reason, shortened(message)),
    };
    let counts = match overridden {
        0 => format!("{current}/{proxies} proxies"),
        _ => format!("{current}/{proxies} proxies; another policy has the say on {overridden}"),
    };
    if declared.value.is_none() {
        return verdict("False", "Invalid", format!("{counts}; the others keep what they hold"));
    }
    match (proxies, rejected) {
        (0, _) => verdict("True", "Programmed", "0 proxies subscribe".into()),
        _ if current == proxies && overridden == proxies => verdict("False", "Overridden", counts),
        _ if current == proxies => verdict("True", "Programmed", counts),
        (_, 0) => verdict("False", "Reconciling", counts),
        _ => verdict("False", "PartiallyProgrammed", format!("{counts}; {rejected} refused it")),
    }
}

fn resolved() -> Verdict {
    Verdict { type_: "ResolvedRefs", status: "True", reason: "ResolvedRefs", message: String::new() }
}

fn not_found(message: String) -> Verdict {
    Verdict { type_: "ResolvedRefs", status: "False", reason: "TargetNotFound", message }
}

fn target_exists(view: &View, target: &PolicyTarget, namespace: &str) -> Verdict {
    let (name, port) = match target {
        PolicyTarget::Service { name, port } => (name, port),
        PolicyTarget::Pods(_) | PolicyTarget::Namespace | PolicyTarget::Unreadable => return resolved(),
        PolicyTarget::Unsupported { kind, .. } => {
            let message = format!("a target of kind {kind} is not supported yet, and not looked for");
            return Verdict { type_: "ResolvedRefs", status: "False", reason: "InvalidKind", message };
        }
    };
    let name = ObjectName::new(namespace, name);
    match (view.service(&name), port) {
        (None, _) => not_found(format!("Service {name} does not exist")),
        (Some(service), Some(port)) if service.ports.iter().all(|known| known.name != *port) => {
            not_found(format!("Service {name} has no TCP port named {port:?}"))
        }
        (Some(_), _) => resolved(),
    }
}

fn reference(target: &PolicyTarget, policy: &ObjectName) -> ParentReference {
    let of = |kind: &str, name: &str, section_name: Option<String>| ParentReference {
        kind: kind.into(),
        name: name.into(),
        section_name,
        ..ParentReference::default()
    };
    match target {
        PolicyTarget::Service { name, port } => of("Service", name, port.clone()),
        PolicyTarget::Pods(_) => of("Pod", &policy.name, None),
        PolicyTarget::Namespace | PolicyTarget::Unreadable => of("Namespace", &policy.namespace, None),
        PolicyTarget::Unsupported { group, kind, name, section } => {
            ParentReference { group: group.clone(), ..of(kind, name, section.clone()) }
        }
    }
}

fn shortened(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().find(|(at, _)| *at >= MESSAGE_MAX) {
        message.truncate(end);
        message.push('…');
    }
    message
}

/// The API keeps a condition's time in whole seconds; what is written must compare equal to what is read.
fn seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Index, manifests::objects};

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n\
                           spec: {clusterIPs: [10.96.0.1], selector: {app: web}, ports: [{name: http, port: 80}]}\n---\n";

    fn view(yaml: &str) -> Index {
        let index = Index::new("cluster.local");
        objects(yaml, "cluster.local").unwrap().into_iter().for_each(|object| index.apply(object));
        index
    }

    fn profile(routes: &str) -> String {
        format!(
            "apiVersion: conduit.io/v1alpha1\nkind: ServiceProfile\n\
             metadata: {{namespace: shop, name: web.shop.svc.cluster.local}}\nspec: {{routes: [{routes}]}}\n"
        )
    }

    fn counted(proxies: usize, current: usize, rejected: usize) -> Result<Programmed, Unknown> {
        Ok(Programmed { proxies, current, rejected, overridden: 0 })
    }

    /// Each condition in one line, for each thing that the one object is about.
    fn said(yaml: &str, counted: &Result<Programmed, Unknown>) -> Vec<Vec<String>> {
        let index = view(yaml);
        let [Subject { drafts, .. }] = drafts(&index.view(), |_| counted.clone()).try_into().unwrap();
        let line = |v: &Verdict| format!("{}={} {}: {}", v.type_, v.status, v.reason, v.message);
        drafts.iter().map(|draft| draft.verdicts.iter().map(line).collect()).collect()
    }

    #[test]
    fn programmed_says_how_many_proxies_hold_it() {
        let profile = SERVICE.to_owned() + &profile("{name: r, condition: {method: GET}}");
        let unknown = Err(Unknown { reason: "ReplicaUnreachable", message: "10.1.0.9 does not answer".into() });
        let overridden = |overridden| Ok(Programmed { proxies: 3, current: 3, rejected: 0, overridden });
        for (counted, expected) in [
            (overridden(1), "Programmed=True Programmed: 3/3 proxies; another policy has the say on 1"),
            (overridden(3), "Programmed=False Overridden: 3/3 proxies; another policy has the say on 3"),
            (counted(42, 42, 0), "Programmed=True Programmed: 42/42 proxies"),
            (counted(0, 0, 0), "Programmed=True Programmed: 0 proxies subscribe"),
            (counted(42, 40, 0), "Programmed=False Reconciling: 40/42 proxies"),
            (counted(42, 40, 2), "Programmed=False PartiallyProgrammed: 40/42 proxies; 2 refused it"),
            (unknown, "Programmed=Unknown ReplicaUnreachable: 10.1.0.9 does not answer"),
        ] {
            let said = said(&profile, &counted);
            assert_eq!(said, [["Accepted=True Accepted: ", "ResolvedRefs=True ResolvedRefs: ", expected]]);
        }
    }

    #[test]
    fn what_cannot_be_read_or_carried_out_is_said_with_every_fault() {
        let bad = profile("{name: r, condition: {pathRegex: \"(\"}}, {name: s, condition: {}}");
        let [said_of_bad] = said(&bad, &counted(3, 0, 0)).try_into().unwrap();
        assert!(said_of_bad[0].starts_with("Accepted=False Invalid: spec.routes[0].condition.pathRegex: must be"));
        assert!(said_of_bad[0].contains("; spec.routes[1].condition: "), "{}", said_of_bad[0]);
        assert_eq!(said_of_bad[1], "ResolvedRefs=False TargetNotFound: Service shop/web does not exist");
        assert_eq!(said_of_bad[2], "Programmed=False Invalid: 0/3 proxies; the others keep what they hold");

        let unsupported = profile("{name: r, condition: {method: GET}, isRetryable: true}");
        let [said_of_unsupported] = said(&unsupported, &counted(3, 3, 0)).try_into().unwrap();
        assert_eq!(
            said_of_unsupported[0],
            "Accepted=False UnsupportedField: spec.routes[0].isRetryable: is not supported yet and has no effect"
        );
        assert_eq!(said_of_unsupported[2], "Programmed=True Programmed: 3/3 proxies");
    }

    #[test]
    fn a_policy_says_of_each_target_what_became_of_it() {
        let policy = "apiVersion: conduit.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {namespace: shop, name: p}\n\
                      spec: {targetRefs: [{kind: Service, name: web, sectionName: http}, \
                      {kind: Service, name: web, sectionName: db}, {kind: Service, name: gone}, {kind: Namespace}, {kind: Namespace}, \
                      {group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}], \
                      outbound: {protocol: {type: HTTP2}}}\n";
        let said = said(&(SERVICE.to_owned() + policy), &counted(1, 1, 0));
        let resolved: Vec<_> = said.iter().map(|conditions| conditions[1].as_str()).collect();
        assert_eq!(
            resolved,
            [
                "ResolvedRefs=True ResolvedRefs: ",
                "ResolvedRefs=False TargetNotFound: Service shop/web has no TCP port named \"db\"",
                "ResolvedRefs=False TargetNotFound: Service shop/gone does not exist",
                "ResolvedRefs=True ResolvedRefs: ",
                "ResolvedRefs=False InvalidKind: a target of kind HTTPRoute is not supported yet, and not looked for",
            ]
        );
    }

    #[test]
    fn a_condition_keeps_the_time_at_which_its_status_began() {
        let verdict = |status, message: &str| Verdict { type_: "A", status, reason: "R", message: message.into() };
        let draft = |status, message| {
            let one = || verdict(status, message);
            vec![Draft { reference: None, verdicts: [one(), one(), one()] }]
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let time = |settled: &[Ancestor]| settled[0].conditions[0].last_transition_time.0.as_second();
        let first = settle(draft("False", "1/2"), 1, &[], at(10));
        let again = settle(draft("False", "1/2"), 1, &first, at(20));
        assert_eq!(first, again, "nothing to write");
        let further = settle(draft("False", "2/3"), 2, &again, at(30));
        assert_eq!((time(&further), further == again), (10, false));
        assert_eq!(time(&settle(draft("True", "3/3"), 2, &further, at(40))), 40);
    }
}
