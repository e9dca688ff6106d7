//! What a proxy subscribes to.

use crate::wire::{self, WireError, required};
use std::net::{IpAddr, SocketAddr};

/// One subscription of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The configuration of the proxy's own workload.
    Inbound,
    /// The original destination of an outbound connection.
    Outbound(SocketAddr),
}

impl Target {
    /// Writes the target as a message.
    pub fn to_wire(self) -> wire::Target {
        let target = match self {
            Self::Inbound => wire::target::Target::Inbound(wire::InboundTarget {}),
            Self::Outbound(address) => wire::target::Target::Outbound(address_to_wire(address)),
        };
        wire::Target { target: Some(target) }
    }

    /// Reads a target.
    pub fn from_wire(message: wire::Target) -> Result<Self, WireError> {
        match required("target", message.target)? {
            wire::target::Target::Inbound(_) => Ok(Self::Inbound),
            wire::target::Target::Outbound(address) => {
                address_from_wire(address).map(Self::Outbound).map_err(|e| e.within("outbound"))
            }
        }
    }
}

pub(crate) fn address_to_wire(address: SocketAddr) -> wire::SocketAddress {
    wire::SocketAddress { ip: ip_to_wire(address.ip()), port: address.port().into() }
}

pub(crate) fn address_from_wire(message: wire::SocketAddress) -> Result<SocketAddr, WireError> {
    Ok(SocketAddr::new(ip_from_wire("ip", &message.ip)?, wire::port("port", message.port)?))
}

pub(crate) fn ip_to_wire(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(crate) fn ip_from_wire(field: &str, octets: &[u8]) -> Result<IpAddr, WireError> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(octets).map(IpAddr::from);
    v4.or(v6).map_err(|_| WireError::new(field, format!("must have 4 or 16 bytes, had {}", octets.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_survives_the_wire() {
        for target in [
            Target::Inbound,
            Target::Outbound("10.96.0.1:443".parse().unwrap()),
            Target::Outbound("[fd00::1]:80".parse().unwrap()),
        ] {
            assert_eq!(Target::from_wire(target.to_wire()), Ok(target));
        }
    }

    #[test]
    fn an_address_of_the_wrong_length_is_refused_with_its_field() {
        let message = wire::Target {
            target: Some(wire::target::Target::Outbound(wire::SocketAddress { ip: vec![1, 2, 3], port: 80 })),
        };
        let error = Target::from_wire(message).unwrap_err();
        assert_eq!(error.to_string(), "outbound.ip: must have 4 or 16 bytes, had 3");
    }

    #[test]
    fn port_zero_is_refused() {
        let message = wire::SocketAddress { ip: vec![10, 0, 0, 1], port: 0 };
        assert_eq!(address_from_wire(message).unwrap_err().to_string(), "port: must be a port from 1 to 65535, was 0");
    }
}
