//! What users rely on, each on a real cluster and in a namespace of its own, several at a time. `make e2e CASE=name` runs
//! one. What disturbs the whole mesh is in `tests/disruptive`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod certify;
mod encrypted;
mod injection;
mod lifecycle;
mod outside;
mod peers;
mod policy;
mod probes;
mod profile;
mod protocols;
mod rollout;
mod strict;
mod subscription;
