//! The program as it is run: privileges, reruns, what it prints and what the kernel then holds. Needs root and nft.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the traffic tests use the rest")]
mod support;

use serde_json::Value;
use support::Namespace;

const BINARY: &str = env!("CARGO_BIN_EXE_conduit-init");

const EVERYTHING: &str = "--outbound-port 5140 --inbound-port 5143 --admin-port 5191 --proxy-uid 3000 \
                          --skip-inbound-ports 25,100-200 --skip-outbound-ports 3306,4567-4568 \
                          --skip-subnets 10.0.0.0/8,172.16.0.0/12,192.0.2.7/32,fd00::/8,2001:db8:8000::/33,\
                          2001:db8::1/128";

/// What nft says the kernel holds, without handles and versions.
fn ruleset(namespace: &Namespace) -> Value {
    let mut ruleset: Value = serde_json::from_str(&namespace.succeed("nft", &["--json", "list", "ruleset"])).unwrap();
    let objects = ruleset["nftables"].as_array_mut().unwrap();
    objects.retain(|object| object.get("metainfo").is_none());
    for object in objects.iter_mut().flat_map(|object| object.as_object_mut().unwrap().values_mut()) {
        object.as_object_mut().unwrap().remove("handle");
    }
    ruleset
}

#[test]
fn the_dry_run_prints_what_the_kernel_holds_after_a_run() {
    for flags in ["", EVERYTHING, "--skip-subnets 0.0.0.0/0,::/0"] {
        let (written, printed) = (Namespace::new(), Namespace::new());
        let line = written.conduit_init(flags);
        assert!(line.starts_with("conduit-init: table inet conduit written and verified: 2 chains, "), "{line}");
        assert_eq!(line.lines().count(), 1);

        let text = printed.conduit_init(&format!("--dry-run {flags}"));
        assert_eq!(ruleset(&printed)["nftables"].as_array().unwrap().len(), 0, "a dry run changes nothing");
        printed.run(|| load(&text));
        let expected = ruleset(&printed);
        assert_eq!(ruleset(&written), expected, "with {flags:?}");
        assert_eq!(expected["nftables"].as_array().unwrap().len(), 3 + text.matches("comment").count());
    }
}

fn load(text: &str) {
    let mut nft =
        std::process::Command::new("nft").args(["-f", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut nft.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
}

#[test]
fn a_rerun_leaves_the_same_table_and_other_tables_alone() {
    let namespace = Namespace::new();
    namespace.succeed("nft", &["add", "table", "inet", "another"]);
    namespace.conduit_init(EVERYTHING);
    let first = ruleset(&namespace);
    namespace.conduit_init(EVERYTHING);
    assert_eq!(ruleset(&namespace), first);

    namespace.conduit_init("");
    let text = namespace.succeed("nft", &["list", "table", "inet", "conduit"]);
    assert!(!text.contains("skipped"), "{text}");
    namespace.succeed("nft", &["list", "table", "inet", "another"]);
}

#[test]
fn a_table_that_others_extended_is_replaced_whole() {
    let namespace = Namespace::new();
    namespace.conduit_init("");
    let clean = ruleset(&namespace);
    namespace.succeed("nft", &["insert", "rule", "inet", "conduit", "outbound", "return"]);
    namespace.succeed("nft", &["add", "chain", "inet", "conduit", "more"]);
    namespace.conduit_init("");
    assert_eq!(ruleset(&namespace), clean);
}

#[test]
fn the_largest_table_is_written_and_verified() {
    let ports = (1..=128).map(|n| format!("{}-{}", n * 10, n * 10 + 5)).collect::<Vec<_>>().join(",");
    let subnets = (0..128).map(|n| format!("2001:db8:{:x}::/47", n * 4)).collect::<Vec<_>>().join(",");
    let namespace = Namespace::new();
    let line = namespace
        .conduit_init(&format!("--skip-inbound-ports {ports} --skip-outbound-ports {ports} --skip-subnets {subnets}"));
    assert!(line.contains("394 rules"), "{line}");
}

/// Runs the program as in a pod: uid 0, no privilege escalation, a read-only root, and only the capabilities named.
fn in_a_container(namespace: &Namespace, capabilities: &str, arguments: &str) -> std::process::Output {
    let script = format!(
        "mount --make-rprivate / && mount -o remount,bind,ro / && ! touch /conduit-init-was-here 2>/dev/null && \
         exec setpriv --no-new-privs --bounding-set=-all{capabilities} --inh-caps=-all{capabilities} \
         --ambient-caps=-all {BINARY} {arguments}"
    );
    namespace.output("unshare", &["--mount", "sh", "-c", &script])
}

#[test]
fn net_admin_alone_suffices_on_a_read_only_root() {
    let namespace = Namespace::new();
    let output = in_a_container(&namespace, ",+net_admin", "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(namespace.succeed("nft", &["list", "ruleset"]).contains("redirect to :4143"));
}

#[test]
fn without_net_admin_it_fails_and_says_what_to_change() {
    let namespace = Namespace::new();
    let output = in_a_container(&namespace, "", "");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with("conduit-init: not permitted to change the network rules of this pod: ")
            && error.contains("securityContext.capabilities.add: [\"NET_ADMIN\"]")
            && error.contains("pod-security.kubernetes.io/enforce=privileged"),
        "{error}"
    );
    assert_eq!(ruleset(&namespace)["nftables"].as_array().unwrap().len(), 0);
}

#[test]
fn a_dry_run_needs_no_privilege() {
    let arguments = ["--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", BINARY, "--dry-run"];
    let text = Namespace::new().succeed("setpriv", &arguments);
    assert_eq!(text, include_str!("golden/default.nft"));
}

#[test]
fn a_bad_flag_is_refused_before_anything_is_changed() {
    let namespace = Namespace::new();
    let output = namespace.output(BINARY, &["--skip-subnets", "10.0.0.0/8,nonsense"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("--skip-subnets") && error.contains("got \"nonsense\""), "{error}");
    assert_eq!(ruleset(&namespace)["nftables"].as_array().unwrap().len(), 0);
}
