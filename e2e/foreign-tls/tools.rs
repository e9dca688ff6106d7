//! TLS stacks that share nothing with ours, for the tests of `proxy` and `operator`: OpenSSL's command, and the Go program
//! beside this file. A tool that is missing fails the test. Knows nothing of what is tested.

// What one user of this file does not need, another does.
#![allow(dead_code)]

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Condvar, LazyLock, Mutex},
    time::Duration,
};

/// Seconds after which a tool that hangs is ended.
const PATIENCE: &str = "60";

/// How long what a server says may be on its way.
const SAID_WITHIN: Duration = Duration::from_secs(15);

/// The Go program, built once a process.
static GO: LazyLock<PathBuf> = LazyLock::new(|| {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/foreign-tls");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-tls");
    let built = Command::new("go").arg("build").arg("-o").arg(&program).arg(".").current_dir(sources).output();
    let built = built.expect("Go is installed");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    program
});

fn limited(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE).arg(program).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Builds the Go program, which may take longer than a case that uses it.
pub fn build() {
    LazyLock::force(&GO);
}

/// What the Go program says on standard output and then on standard error.
pub fn go(arguments: &[&str]) -> String {
    both(&limited(&GO).args(arguments).output().expect("coreutils are installed"))
}

/// What `openssl` says on standard output and then on standard error, where `input` is what it reads.
pub fn openssl(arguments: &[&str], input: &str) -> String {
    let command = limited(Path::new("openssl")).args(arguments).stdin(Stdio::piped()).spawn();
    let mut command = command.expect("coreutils are installed");
    let mut stdin = command.stdin.take().expect("it is piped");
    // What has ended already reads nothing.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = command.wait_with_output().expect("it ends");
    assert_ne!(output.status.code(), Some(127), "openssl is not installed");
    both(&output)
}

fn both(output: &Output) -> String {
    assert_ne!(output.status.code(), Some(124), "it hangs");
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

/// A server of one of the tools, which ends with the test.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
    said: Arc<(Mutex<String>, Condvar)>,
}

impl Server {
    pub fn go(folder: &str) -> Self {
        Self::start(limited(&GO).args(["serve", folder]), "listening ")
    }

    pub fn openssl(arguments: &[&str]) -> Self {
        let mut command = limited(Path::new("openssl"));
        Self::start(command.args(["s_server", "-accept", "127.0.0.1:0"]).args(arguments), "ACCEPT ")
    }

    /// Starts it, which says its address after `announcement`.
    fn start(command: &mut Command, announcement: &str) -> Self {
        let mut process = command.spawn().expect("coreutils are installed");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let address =
            lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix(announcement)?.parse().ok());
        let said = Arc::<(Mutex<String>, Condvar)>::default();
        let (heard, errors) = (said.clone(), BufReader::new(process.stderr.take().expect("it is piped")).lines());
        for lines in [Box::new(lines) as Box<dyn Iterator<Item = _> + Send>, Box::new(errors)] {
            let heard = heard.clone();
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    heard.0.lock().expect("nobody panics with it").push_str(&(line + "\n"));
                    heard.1.notify_all();
                }
            });
        }
        Self { process, address: address.expect("the server says where it listens"), said }
    }

    /// What it has said since, once it holds each of `lines`: what a server has written, its reader may not have read yet.
    pub fn says(&self, lines: &[&str]) -> String {
        let (said, more) = &*self.said;
        let missing = |said: &mut String| !lines.iter().all(|line| said.contains(line));
        let said = said.lock().expect("nobody panics with it");
        let (said, _) = more.wait_timeout_while(said, SAID_WITHIN, missing).expect("nobody panics with it");
        expect(&said, lines);
        said.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // `timeout` passes a SIGTERM on, but no SIGKILL.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// Asserts that `text` holds each of `lines`.
pub fn expect(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "expected {line:?} in\n{text}");
    }
}
