//! Golden tests: each file of `testdata` holds a Namespace and a Pod, the file beside it what became of the Pod. With
//! `UPDATE_GOLDEN=1` the results are written instead of compared.

use super::*;
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use serde_json::{Value, json};
use std::{fs, path::Path};

fn config() -> Config {
    let mut defaults = Settings::default();
    for (key, value) in [
        ("proxy-log-level", "info"),
        ("proxy-cpu-request", "20m"),
        ("proxy-memory-request", "20Mi"),
        ("proxy-memory-limit", "250Mi"),
    ] {
        defaults.set(key, value).unwrap();
    }
    let mut init = Settings::default();
    init.set("proxy-cpu-request", "10m").unwrap();
    Config {
        proxy_image: "example.org/conduit-proxy:1".into(),
        image_pull_policy: "IfNotPresent".into(),
        version: "1".into(),
        discovery_address: "conduit-operator.conduit.svc.cluster.local:8086".into(),
        identity_address: "conduit-operator.conduit.svc.cluster.local:8080".into(),
        trust_domain: "cluster.local".parse().unwrap(),
        init_resources: init.resources,
        defaults,
    }
}

fn decide_on(namespace: &NamespaceObject, pod: &Value) -> Decision {
    let (labels, annotations) = (namespace.metadata.labels.clone(), namespace.metadata.annotations.clone());
    let facts = Namespace {
        name: namespace.metadata.name.as_deref().unwrap(),
        labels: &labels.unwrap_or_default(),
        annotations: &annotations.unwrap_or_default(),
    };
    decide(facts, &serde_json::from_value(pod.clone()).unwrap(), &config())
}

fn patched(pod: &Value, plan: &Plan) -> Value {
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &plan.patch).unwrap();
    pod
}

/// What became of the pod, as YAML that a person can review.
fn outcome(namespace: &NamespaceObject, pod: &Value) -> String {
    match decide_on(namespace, pod) {
        Decision::Skip(skip) => format!("# {skip}\n"),
        Decision::Refuse(refusals) => refusals.iter().map(|refusal| format!("# {refusal}\n")).collect(),
        Decision::Inject(plan) => {
            let pod = patched(pod, &plan);
            assert_eq!(decide_on(namespace, &pod), Decision::Skip(Skip::AlreadyInjected), "injection is idempotent");
            let warnings: String = plan.warnings.iter().map(|warning| format!("# warning: {warning}\n")).collect();
            warnings + &serde_saphyr::to_string(&pod).unwrap()
        }
    }
}

#[test]
fn each_pod_of_the_test_data_becomes_what_its_golden_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inject/testdata");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let input = entry.unwrap().path();
        let name = input.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(name) = name.strip_suffix(".in.yaml") else { continue };
        let text = fs::read_to_string(&input).unwrap();
        let (namespace, pod) = text.split_once("\n---\n").unwrap();
        let outcome = outcome(&serde_saphyr::from_str(namespace).unwrap(), &serde_saphyr::from_str(pod).unwrap());
        let golden = folder.join(format!("{name}.out.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &outcome).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(outcome, expected, "{name}: if this is meant, write it with UPDATE_GOLDEN=1");
        seen += 1;
    }
    assert!(seen >= 8, "the test data was not found");
}

#[test]
fn a_probe_that_another_webhook_adds_later_is_rewritten_when_asked_again() {
    let namespace: NamespaceObject = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    let probe = |port| json!({"tcpSocket": {"port": port}});
    let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "db", "livenessProbe": probe(6379)}]}});
    let Decision::Inject(plan) = decide_on(&namespace, &pod) else { panic!("the pod is injected") };
    let mut pod = patched(&pod, &plan);
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "late", "readinessProbe": probe(80)}));
    let Decision::Inject(plan) = decide_on(&namespace, &pod) else { panic!("the late probe is rewritten") };
    let pod = patched(&pod, &plan);
    assert_eq!(pod["spec"]["containers"][1]["readinessProbe"]["httpGet"]["path"], "/probe/tcp?port=80");
    let environment = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
    let allowed = environment.iter().find(|variable| variable["name"] == "CONDUIT_PROXY_TCP_PROBE_PORTS").unwrap();
    assert_eq!(allowed["value"], "80,6379");
    assert_eq!(decide_on(&namespace, &pod), Decision::Skip(Skip::AlreadyInjected));
}

#[test]
fn a_field_that_this_build_has_no_name_for_survives() {
    let namespace: NamespaceObject = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "app", "fromTheFuture": {"deep": [1]}}], "alsoNew": true}});
    let Decision::Inject(plan) = decide_on(&namespace, &pod) else { panic!("the pod is injected") };
    let pod = patched(&pod, &plan);
    assert_eq!(pod["spec"]["containers"][0], json!({"name": "app", "fromTheFuture": {"deep": [1]}}));
    assert_eq!(pod["spec"]["alsoNew"], true);
}

#[test]
fn only_a_skip_that_may_surprise_is_told_by_an_event() {
    for (skip, surprises) in [
        (Skip::HostNetwork, true),
        (Skip::Windows, true),
        (Skip::OtherMesh("istio-proxy"), true),
        (Skip::AlreadyInjected, false),
        (Skip::OptedOut, false),
    ] {
        assert_eq!(skip.surprises(), surprises, "{skip}");
    }
}

#[test]
fn every_key_of_the_table_has_a_name_of_its_own_and_says_what_it_is_for() {
    let names: std::collections::BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), KEYS.len());
    assert!(KEYS.iter().all(|key| key.about.ends_with('.')));
    assert_eq!(Settings::default().set("proxy-colour", "red"), Err("one of the documented keys"));
}

#[test]
fn the_guide_names_every_key() {
    let guide = include_str!("../../../docs/getting-started.md");
    let table: Vec<_> = guide.lines().filter(|line| line.starts_with("| `")).collect();
    let missing: Vec<_> = KEYS.iter().map(|key| format!("`{}`", key.name)).collect();
    let missing: Vec<_> = missing.iter().filter(|key| !table.iter().any(|line| line.contains(key.as_str()))).collect();
    assert!(missing.is_empty(), "not in docs/getting-started.md: {missing:?}");
}
