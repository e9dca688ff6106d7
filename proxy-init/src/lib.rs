//! Traffic interception for one pod: one nftables table, `inet conduit`, for IPv4 and IPv6.
//!
//! The rooms, in the order a run goes through them:
//!
//! - [`settings`] parses what the user asked for into types that cannot hold nonsense;
//! - [`ruleset`] decides, purely, which chains and rules that means, and why each rule is there;
//! - `syntax` writes a ruleset as nft text (what `--dry-run` prints);
//! - `wire` writes it as netlink messages;
//! - [`kernel`] sends them as one atomic transaction, reads the table back and has `verify` compare the two.
//!
//! This crate knows nothing of Kubernetes, of the proxy's code, or of the injector that starts it: the flags are the
//! whole contract. It writes no file, needs no `/run`, starts no process and needs no capability but `CAP_NET_ADMIN`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod flags;
pub mod kernel;
pub mod ruleset;
pub mod settings;
mod syntax;
mod verify;
mod wire;

pub use flags::Flags;
pub use kernel::{InterceptError, intercept};
pub use ruleset::Ruleset;
pub use settings::Settings;
