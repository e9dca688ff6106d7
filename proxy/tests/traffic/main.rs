//! The data plane between real clients and servers on loopback: the outbound proxy of one pod, the inbound proxy of
//! another, or both in a row. The original destination is given instead of tracked; all else is as in a pod.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

mod access;
mod admission;
mod calls;
mod endpoints;
mod floods;
mod foreign;
mod frames;
mod framing;
mod grpc;
mod grpc_ends;
mod heap;
mod hostile;
mod http1;
mod http1_early;
mod http2;
mod http2_bounds;
mod http2_messages;
mod http2_tunnels;
mod identity;
mod lifecycle;
mod metrics;
mod namespace;
mod own_tls;
mod peers;
mod resend;
mod support;
mod tcp;
mod tcp_ends;
mod tls;
#[path = "../../../e2e/foreign-tls/tools.rs"]
mod tools;
mod vanished;
