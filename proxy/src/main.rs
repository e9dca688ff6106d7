//! The binary `conduit-proxy`.
fn main() {}
