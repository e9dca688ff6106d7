//! Network namespaces, and a pod with a neighbour, for tests against the real kernel. Needs root, and iproute2,
//! util-linux and nftables; a test fails where they are missing.
//!
//! A namespace lives only as a file descriptor of the test's process: however the test ends, nothing is left.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space, set_thread_uid};
use socket2::SockRef;

/// The user id that the tests give the proxy.
pub(crate) const PROXY_UID: u32 = 2102;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A network namespace with nothing but `lo`, which is up.
pub(crate) struct Namespace {
    handle: File,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare of util-linux runs");
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().expect("stdout is piped")).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "a network namespace needs root");
        let handle = File::open(format!("/proc/{}/ns/net", holder.id())).expect("the namespace's handle");
        drop(holder.stdin.take());
        holder.wait().expect("the holder ends when its input does");
        let namespace = Namespace { handle };
        // Else IPv6 addresses are not usable for a second or two, until the kernel knows that they are no duplicates.
        namespace.run(|| {
            for devices in ["all", "default"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/{devices}/accept_dad"), "0")
                    .expect("root may write sysctls");
            }
        });
        namespace
    }

    /// Runs a function on a thread of this namespace; processes that it starts are in it too.
    pub(crate) fn run<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                function()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn enter(&self) {
        move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns needs root");
    }

    /// Runs a program to its end.
    pub(crate) fn output(&self, program: &str, arguments: &[&str]) -> Output {
        self.run(|| Command::new(program).args(arguments).output().expect("the program runs"))
    }

    /// Runs a program that must succeed, and gives what it printed.
    pub(crate) fn succeed(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.output(program, arguments);
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs `ip` with arguments separated by blanks.
    pub(crate) fn ip(&self, arguments: &str) {
        self.succeed("ip", &arguments.split_whitespace().collect::<Vec<_>>());
    }

    /// Runs conduit-init with arguments separated by blanks; it must succeed.
    pub(crate) fn conduit_init(&self, arguments: &str) -> String {
        self.succeed(env!("CARGO_BIN_EXE_conduit-init"), &arguments.split_whitespace().collect::<Vec<_>>())
    }

    /// Joins this namespace and another by a veth pair with the given addresses (with prefix lengths).
    pub(crate) fn join(&self, device: &str, addresses: &[&str], other: &Namespace, other_addresses: &[&str]) {
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.handle.as_raw_fd());
        self.ip(&format!("link add {device} type veth peer name eth0 netns {path}"));
        for (namespace, device, addresses) in [(self, device, addresses), (other, "eth0", other_addresses)] {
            for address in addresses {
                namespace.ip(&format!("addr add {address} dev {device}"));
            }
            namespace.ip(&format!("link set {device} up"));
        }
    }

    /// Answers every connection to the addresses with `<name>, meant for <original destination>`.
    pub(crate) fn listen(&self, name: &'static str, addresses: &[&str]) {
        for address in addresses {
            let address: SocketAddr = address.parse().expect("an address");
            let listener = self.run(|| TcpListener::bind(address).expect("the port is free"));
            // The thread ends with the process; a listener needs no namespace once it is bound.
            thread::spawn(move || {
                for connection in listener.incoming() {
                    answer(name, connection.expect("a connection"));
                }
            });
        }
    }

    /// Connects as the given user, and gives what the other side says.
    pub(crate) fn ask_as(&self, uid: u32, address: &str) -> String {
        let address: SocketAddr = address.parse().expect("an address");
        self.run(|| {
            if uid != 0 {
                set_thread_uid(rustix::process::Uid::from_raw(uid)).expect("root may become another user");
            }
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(connection) => read(connection),
                Err(error) => format!("no connection: {error}"),
            }
        })
    }

    /// Connects as an application, and gives what the other side says.
    pub(crate) fn ask(&self, address: &str) -> String {
        self.ask_as(0, address)
    }

    /// The link-local IPv6 address of a device, and the device's index.
    pub(crate) fn link_local(&self, device: &str) -> (IpAddr, u32) {
        let json = self.succeed("ip", &["-json", "address", "show", "dev", device]);
        let links: serde_json::Value = serde_json::from_str(&json).expect("ip prints JSON");
        let index = links[0]["ifindex"].as_u64().expect("an index");
        let addresses = links[0]["addr_info"].as_array().expect("addresses");
        let link_local = addresses.iter().find(|address| address["scope"] == "link").expect("a link-local address");
        let address = link_local["local"].as_str().expect("text").parse().expect("an address");
        (address, u32::try_from(index).expect("a small index"))
    }
}

fn answer(name: &str, mut connection: TcpStream) {
    let socket = SockRef::from(&connection);
    let local = connection.local_addr().expect("a local address");
    // On an IPv6 socket that serves IPv4 too, IPv4 addresses are mapped, and the IPv4 option is the one to ask.
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let original = match local.ip() {
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    };
    let meant_for = original.ok().and_then(|address| address.as_socket()).unwrap_or(local);
    // A client that has gone away is the client's test to fail.
    let _ = write!(connection, "{name}, meant for {meant_for}");
    let _ = connection.shutdown(Shutdown::Write);
}

fn read(mut connection: TcpStream) -> String {
    connection.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let mut text = String::new();
    match connection.read_to_string(&mut text) {
        Ok(_) => text,
        Err(error) => format!("no answer: {error}"),
    }
}

/// A pod with its application and the proxy's listeners, and a neighbour that it is joined with by `eth0`.
pub(crate) struct Pod {
    pub(crate) pod: Namespace,
    pub(crate) neighbour: Namespace,
}

/// The pod's addresses.
pub(crate) const POD: [&str; 2] = ["10.9.0.1", "[fd09::1]"];
/// The neighbour's addresses on the same network.
pub(crate) const NEIGHBOUR: [&str; 2] = ["10.9.0.2", "[fd09::2]"];
/// More addresses of the neighbour, in subnets of their own.
pub(crate) const ELSEWHERE: [&str; 2] = ["10.77.0.2", "[fd77::2]"];

impl Pod {
    pub(crate) fn new() -> Self {
        let (pod, neighbour) = (Namespace::new(), Namespace::new());
        pod.join(
            "eth0",
            &["10.9.0.1/24", "fd09::1/64"],
            &neighbour,
            &["10.9.0.2/24", "fd09::2/64", "10.77.0.2/24", "fd77::2/64"],
        );
        pod.ip("route add default via 10.9.0.2");
        pod.ip("route add default via fd09::2");

        pod.listen("outbound proxy", &["127.0.0.1:4140", "[::1]:4140"]);
        pod.listen("inbound proxy", &["[::]:4143"]);
        pod.listen("admin", &["[::]:4191"]);
        pod.listen("application", &["[::]:80", "[::]:25", "[::]:150"]);
        neighbour.listen("neighbour", &["[::]:80", "[::]:25", "[::]:150", "[::]:4143", "[::]:53"]);
        Pod { pod, neighbour }
    }
}
