//! What users rely on, each on a real cluster and in a namespace of its own, several at a time. `make e2e CASE=name` runs
//! one. What disturbs the whole mesh is in `tests/disruptive`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod access_log;
mod addresses;
mod certify;
mod encrypted;
mod ending;
mod grpc;
mod injection;
mod lifecycle;
mod mariadb;
mod outside;
mod peers;
mod policy;
mod probes;
mod profile;
mod protocols;
mod rollout;
mod strict;
mod subscription;
