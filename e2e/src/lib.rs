//! What the cases on a real cluster stand on: a namespace of its own for each case, applying manifests, running a
//! command in a pod, reading a proxy's metrics, waiting for what becomes true.
//!
//! This room knows Kubernetes' API and what users type. It knows nothing of how Conduit is built: the cases see what a
//! user sees.
#![allow(clippy::unwrap_used, clippy::panic)]

pub mod attack;
pub mod capture;
pub mod case;
pub mod cluster;
pub mod command;
pub mod identity;
pub mod installation;
pub mod manifest;
pub mod metrics;
pub mod status;
pub mod tool;
pub mod traffic;
pub mod workload;

pub use case::{Case, Mesh};
pub use cluster::{Cluster, eventually};
pub use metrics::Scrape;
