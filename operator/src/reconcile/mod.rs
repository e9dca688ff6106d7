//! What the operator writes: certificates, webhook configurations, trust bundles, status, Events. Each file brings one kind of
//! object to what it should be, and back there when somebody changes it. Must not serve anything.

pub mod certificate;
mod expiry;
pub mod identity;
pub mod leader;
pub mod notices;
pub mod remarks;
mod secret;
pub mod status;
pub mod trust_bundle;
pub mod webhook;

#[cfg(test)]
mod tests;
