//! Load from one process on one thread, and what it met. Must not know what stands between it and the origin.

mod abort;
mod bulk;
mod client;
mod hold;
mod paced;
mod tour;
mod wire;

pub(crate) mod origin;

pub(crate) use abort::{Abort, Aborted, run as run_abort};
pub(crate) use bulk::{Bulk, BulkResult, run as run_bulk};
pub(crate) use client::{Client, Target};
pub(crate) use hold::{First, Held, Hold, first, run as run_hold};
pub(crate) use paced::{Load, LoadResult, run as run_load};
pub(crate) use tour::{Tour, run as run_tour};

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// HTTP/1.1, a GET with a body of 1,024 bytes as answer.
    #[value(name = "h1")]
    Http1,
    /// HTTP/2 in plaintext, likewise.
    #[value(name = "h2")]
    Http2,
    /// A unary call: 128 bytes there, 1,019 back.
    #[value(name = "grpc")]
    Grpc,
    /// Bytes that are echoed.
    #[value(name = "tcp")]
    Tcp,
}

/// Where a load goes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct To {
    /// What is spoken.
    #[arg(long, default_value = "h1")]
    pub(crate) protocol: Protocol,
    /// The address to connect to.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) to: SocketAddr,
    /// The name that requests ask for.
    #[arg(long, default_value = "server.bench.svc.cluster.local")]
    pub(crate) authority: String,
    /// Length of an echoed message over TCP, in bytes.
    #[arg(long, default_value_t = 1024)]
    pub(crate) size: usize,
    /// Processes whose use of the machine is told along.
    #[arg(long, value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
}

impl To {
    fn target(&self) -> Target {
        let Self { protocol, to, authority, size, .. } = self;
        Target { protocol: *protocol, address: *to, authority: authority.clone(), size: *size }
    }
}
