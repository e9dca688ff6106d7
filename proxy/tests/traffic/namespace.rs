//! A network of a case's own, with loopback and nothing else, in which packets can be lost. Needs root, iproute2 and nft; a
//! case fails where they are missing. It ends with its thread and the sockets in it.
#![allow(unsafe_code)]

use std::process::Command;

/// Runs `case` on a thread of a network namespace of its own; processes that it starts are in it too.
pub(crate) fn inside(case: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: unshare(2) takes no pointers, and the network of this thread is nobody else's concern.
            let failed = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(failed, 0, "a network namespace needs root: {}", std::io::Error::last_os_error());
            succeed("ip", "link set lo up");
            case();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Adds rules in the language of nft.
pub(crate) fn nft(rules: &str) {
    for rule in rules.lines().map(str::trim).filter(|rule| !rule.is_empty()) {
        succeed("nft", rule);
    }
}

/// From now on no packet from or to `port` arrives.
pub(crate) fn lose(port: u16) {
    nft(&format!(
        "add table inet lossy
         add chain inet lossy arriving {{ type filter hook input priority 0; }}
         add rule inet lossy arriving tcp sport {port} drop
         add rule inet lossy arriving tcp dport {port} drop"
    ));
}

fn succeed(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
