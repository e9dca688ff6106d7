//! The room `identity` with the authority that its own tests have.

#[path = "../../src/identity/fake.rs"]
pub(crate) mod fake;

pub(crate) use conduit_proxy::identity::*;
