//! The pod's default gateways, from which the kubelet's probes come on many networks: the node, as the pod sees it.
//!
//! Read once, from the kernel's routing tables in `/proc`; a pod's routes do not change.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// RTF_UP and RTF_GATEWAY of `linux/route.h`: the route is in use, and leads through a gateway.
const UP_THROUGH_GATEWAY: u32 = 0x1 | 0x2;

/// The default gateways of this network namespace.
///
/// # Errors
/// A table is there and cannot be read. A kernel without IPv6 has only one.
pub fn read() -> io::Result<Vec<IpAddr>> {
    let table = |path| match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    };
    let mut gateways: Vec<IpAddr> = ipv4(&table("/proc/net/route")?).map(IpAddr::V4).collect();
    gateways.extend(ipv6(&table("/proc/net/ipv6_route")?).map(IpAddr::V6));
    gateways.sort_unstable();
    gateways.dedup();
    Ok(gateways)
}

/// Gateways of the default routes in `/proc/net/route`: a head line, then `Iface Destination Gateway Flags RefCnt Use
/// Metric Mask …`. Addresses are written as numbers whose bytes in memory are in network order.
fn ipv4(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let hex = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
        let (destination, gateway, flags, mask) = (hex(1)?, hex(2)?, hex(3)?, hex(7)?);
        let is_default = destination == 0 && mask == 0 && flags & UP_THROUGH_GATEWAY == UP_THROUGH_GATEWAY;
        is_default.then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

/// Gateways of the default routes in `/proc/net/ipv6_route`: `destination length source length gateway metric refcnt use
/// flags iface`, addresses as 32 hexadecimal digits, with no head line.
fn ipv6(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let hex = |index: usize| u128::from_str_radix(fields.get(index)?, 16).ok();
        let (destination, length, gateway, flags) = (hex(0)?, hex(1)?, hex(4)?, hex(8)? as u32);
        let is_default = destination == 0 && length == 0 && flags & UP_THROUGH_GATEWAY == UP_THROUGH_GATEWAY;
        is_default.then(|| Ipv6Addr::from_bits(gateway))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_gateways_of_ipv4s_default_routes_are_found_and_no_others() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0100F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t0000F40A\t0100F40A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                     eth0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     eth1\t00000000\t0200F40A\t0002\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth1\t00000000\n";
        assert_eq!(ipv4(table).collect::<Vec<_>>(), [Ipv4Addr::new(10, 244, 0, 1)]);
        assert_eq!(ipv4("").count(), 0);
    }

    #[test]
    fn the_gateways_of_ipv6s_default_routes_are_found_and_no_others() {
        let zero = "0".repeat(32);
        let table = format!(
            "{zero} 00 {zero} 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
             fd000000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             nonsense\n"
        );
        assert_eq!(ipv6(&table).collect::<Vec<_>>(), ["fd00::1".parse::<Ipv6Addr>().unwrap()]);
    }
}
