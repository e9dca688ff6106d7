//! The data plane: one process beside every meshed pod, through which its connections go.
//!
//! The rooms, and who may know whom, downward only: `app` → {`discovery`, `outbound`, `inbound`} → {`upstream`, `http`,
//! `listen`} → {`identity`, `record`, `outcome`} → `tls` → `conduit_model`. `outbound` and `inbound` never import each other.
//! Nothing here can spell Kubernetes: what a proxy knows of a cluster, the operator tells it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod app;
pub mod discovery;
pub mod http;
pub mod identity;
pub mod inbound;
pub mod listen;
pub mod outbound;
pub mod outcome;
pub mod record;
pub mod tls;
pub mod upstream;
