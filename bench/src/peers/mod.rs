//! Who is measured: Conduit, its peers, the floor, and no proxy at all, each with pods of its own that look the same to the
//! load. Must not know what is measured.

mod certificates;
mod envoy;
mod haproxy;
mod subject;
mod variation;

pub(crate) mod floor;

pub(crate) use subject::Subject;
pub(crate) use variation::Variation;

use crate::{load::Protocol, mesh};
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, path::PathBuf, process::Command};

/// One port for each of the protocols; gRPC shares that of HTTP/2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) http1: u16,
    pub(crate) http2: u16,
    pub(crate) tcp: u16,
}

impl Ports {
    fn of(self, protocol: Protocol) -> u16 {
        match protocol {
            Protocol::Http1 => self.http1,
            Protocol::Http2 | Protocol::Grpc => self.http2,
            Protocol::Tcp => self.tcp,
        }
    }

    fn all(self) -> [u16; 3] {
        [self.http1, self.http2, self.tcp]
    }
}

/// The ports along the way.
struct Way {
    /// Of the Service, which the client dials.
    service: Ports,
    /// Of the client's half of a peer, to which the Service's are redirected.
    outbound: Ports,
    /// Of the server's half.
    inbound: Ports,
    /// Of the origin.
    origin: Ports,
}

const PORTS: Way = Way {
    service: Ports { http1: 80, http2: 81, tcp: 90 },
    outbound: Ports { http1: 4180, http2: 4181, tcp: 4190 },
    inbound: Ports { http1: 4280, http2: 4281, tcp: 4290 },
    origin: Ports { http1: 8080, http2: 8081, tcp: 9090 },
};

/// A half of a peer: the one with the client, or the one with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Client,
    Server,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// No proxy: the client dials the origin.
    None,
    /// Two relays by `splice(2)`, without TLS.
    Floor,
    /// haproxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// Ours.
    Conduit,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "no proxy",
            Self::Floor => "floor",
            Self::Haproxy => "haproxy",
            Self::Envoy => "Envoy",
            Self::Conduit => "Conduit",
        })
    }
}

/// The programs of all of them.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Programs {
    /// The folder with conduit-operator, conduit-proxy and conduit-init.
    #[arg(long, value_name = "DIR")]
    pub(crate) binaries: PathBuf,
    /// The program haproxy.
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/haproxy")]
    pub(crate) haproxy: PathBuf,
    /// The program envoy.
    #[arg(long, value_name = "FILE", default_value = "envoy")]
    pub(crate) envoy: PathBuf,
}

impl Programs {
    /// What a program says its version is.
    pub(crate) fn version(&self, peer: Peer) -> Option<String> {
        let (program, flag) = match peer {
            Peer::None | Peer::Floor => return None,
            Peer::Haproxy => (self.haproxy.clone(), "-v"),
            Peer::Envoy => (self.envoy.clone(), "--version"),
            Peer::Conduit => (self.binaries.join("conduit-proxy"), "--version"),
        };
        let output = Command::new(program).arg(flag).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        // Envoy begins with the path that it was called by.
        let line = text.lines().find(|line| !line.is_empty())?;
        Some(line.rsplit_once("version: ").map_or(line, |(_, version)| version).to_owned())
    }
}

fn redirects() -> String {
    let pairs = PORTS.service.all().into_iter().zip(PORTS.outbound.all());
    let service = mesh::manifests::SERVICE_IP;
    let rules = pairs.map(|(from, to)| format!("    ip daddr {service} tcp dport {from} redirect to :{to}\n"));
    let rules: String = rules.collect();
    format!("table ip peer {{\n  chain output {{\n    type nat hook output priority -100\n{rules}  }}\n}}\n")
}

fn floor_maps(half: Half, server: Ipv4Addr) -> Vec<String> {
    let (listen, from, to) = match half {
        Half::Client => (Ipv4Addr::LOCALHOST, PORTS.outbound, PORTS.inbound),
        Half::Server => (Ipv4Addr::UNSPECIFIED, PORTS.inbound, PORTS.origin),
    };
    let maps = from.all().into_iter().zip(to.all());
    maps.map(|(from, to)| format!("--map={listen}:{from}={server}:{to}")).collect()
}
