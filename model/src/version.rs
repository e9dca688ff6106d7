//! The version of a resource: a hash of what it says, so that every replica of the operator gives it the same one.

use crate::{endpoint_set::EndpointSet, inbound::Inbound, outbound::Outbound};
use prost::Message;
use sha2::{Digest, Sha256};
use std::fmt;

/// The first 16 bytes of the SHA-256 of a resource's encoded form; of endpoints, of the sum of theirs (see
/// [`crate::EndpointSet`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version([u8; 16]);

impl Version {
    /// Version of an inbound configuration.
    pub fn of_inbound(inbound: &Inbound) -> Self {
        Self::of(&inbound.to_wire().encode_to_vec())
    }

    /// Version of an outbound configuration.
    pub fn of_outbound(outbound: &Outbound) -> Self {
        Self::of(&outbound.to_wire().encode_to_vec())
    }

    /// Version of a set of endpoints.
    pub fn of_endpoints(endpoints: &EndpointSet) -> Self {
        Self::of(&endpoints.digest())
    }

    /// The version that a message names; none where the message names none or something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// As it goes into messages.
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }

    fn of(encoded: &[u8]) -> Self {
        let mut version = [0; 16];
        version.copy_from_slice(&Sha256::digest(encoded)[..16]);
        Self(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mtls::OutboundTlsMode, protocol::Protocol};

    #[test]
    fn a_version_is_a_function_of_the_content_alone() {
        let one = Outbound::unknown(OutboundTlsMode::Prefer);
        let other = Outbound { protocol: Protocol::Http2, ..one.clone() };
        assert_eq!(Version::of_outbound(&one), Version::of_outbound(&one.clone()));
        assert_ne!(Version::of_outbound(&one), Version::of_outbound(&other));
    }

    #[test]
    fn a_version_survives_its_bytes() {
        let version = Version::of_outbound(&Outbound::unknown(OutboundTlsMode::Prefer));
        assert_eq!(Version::from_bytes(&version.to_bytes()), Some(version));
        assert_eq!(Version::from_bytes(b"short"), None);
    }
}
