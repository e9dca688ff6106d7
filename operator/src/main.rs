//! The operator's binary: starts `app`.
fn main() {}
