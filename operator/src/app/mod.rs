//! Wiring: flags, logging, start, readiness and shutdown. Nothing is decided here.

mod flags;

pub use flags::{Flags, Injection, LogFormat, PullPolicy, SERVICE, Source};
