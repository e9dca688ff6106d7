//! The control plane of Conduit: it puts proxies into pods, tells them what their traffic should do, and says in the
//! status of each object what became of it.
//!
//! One room per concern; the arrows between them are in `ARCHITECTURE.md` and tested by `xtask tidy`. This file only
//! names the rooms.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod admission;
pub mod app;
pub mod compile;
pub mod credential;
pub mod discovery;
pub mod identity;
pub mod index;
pub mod inject;
pub mod issuer;
pub mod reconcile;
