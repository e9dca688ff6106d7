//! The decision: which chains and rules a set of settings means. Pure; knows neither nft's syntax nor netlink.
//!
//! # Why these rules
//!
//! Chains of type `nat` see only the first packet of a connection, so that the rules cost nothing once it stands, and
//! connections that already stand are left alone. A redirect in the `output` hook sends the connection to 127.0.0.1
//! or ::1, where the outbound proxy listens; a redirect in the `prerouting` hook sends it to the address of the
//! interface it came in by. In both cases the proxy reads the address that was meant with `SO_ORIGINAL_DST`.
//!
//! - *What the proxy sends* would come back to it for ever: exempt by its user id. The condition holds on the output side
//!   only, because only there a packet has an owning socket.
//! - *Loopback* is private to the pod: exempt by the interface, which also covers the pod's own address (routed over
//!   `lo`), and by address, in case the route of 127.0.0.0/8 was changed.
//! - *IPv6 link-local* destinations hold only on one interface. The kernel binds such a socket to the interface, from
//!   which ::1 cannot be reached: a redirected connection would fail.
//! - *Forwarded traffic*, of containers within the pod for example, is not meant for the pod: only connections to the
//!   pod's own addresses go to the inbound proxy.
//! - *The proxy's listeners* themselves are not exempt: a connection from outside to any of them (but admin) ends at the
//!   inbound listener with its original destination known, and the proxy closes it.
//! - Everything that is not TCP is untouched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::settings::{Port, PortRange, Settings};

/// The table's name; its family is `inet`.
pub const TABLE: &str = "conduit";

/// The one table, decided whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    pub(crate) chains: Vec<Chain>,
    ports: (Port, Port),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) hook: Hook,
    pub(crate) rules: Vec<Rule>,
}

/// Where a chain is called by the kernel; always as type `nat`, at the priority of destination NAT (-100).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Output,
    Prerouting,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) condition: Condition,
    pub(crate) action: Action,
    /// Shown by `nft list`; at most 128 bytes, printable, without quotes.
    pub(crate) comment: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The sending socket was opened by this user.
    SocketUser(u32),
    /// The packet leaves by `lo`.
    LeavesByLoopback,
    /// The packet came in by `lo`.
    CameByLoopback,
    /// The destination address is in the subnet.
    Destination(IpNet),
    /// The destination is none of this network namespace's own addresses.
    DestinationNotLocal,
    /// TCP to a port of the range.
    TcpDestination(PortRange),
    /// Any TCP.
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Leave the connection alone.
    Return,
    /// Send the connection to this port of this network namespace.
    Redirect(Port),
}

impl Ruleset {
    /// The ruleset that the settings mean.
    #[must_use]
    pub fn for_settings(settings: &Settings) -> Self {
        Ruleset {
            chains: vec![outbound(settings), inbound(settings)],
            ports: (settings.outbound_port, settings.inbound_port),
        }
    }

    /// One line that says what the table does, for the log.
    #[must_use]
    pub fn summary(&self) -> String {
        let rules: usize = self.chains.iter().map(|chain| chain.rules.len()).sum();
        let (outbound, inbound) = self.ports;
        format!(
            "table inet {TABLE} written and verified: {} chains, {rules} rules; \
             outbound TCP goes to port {outbound}, inbound TCP to port {inbound}",
            self.chains.len()
        )
    }
}

impl Hook {
    /// The name of the chain that this program hangs here.
    pub(crate) fn chain_name(self) -> &'static str {
        match self {
            Hook::Output => "outbound",
            Hook::Prerouting => "inbound",
        }
    }
}

fn outbound(settings: &Settings) -> Chain {
    let loopback_v4 = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8));
    let loopback_v6 = IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST));
    let link_local_v6 = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10));

    let mut rules = vec![
        leave(Condition::SocketUser(settings.proxy_uid), "sent by the proxy"),
        leave(Condition::LeavesByLoopback, "stays within the pod"),
        leave(Condition::Destination(loopback_v4), "loopback"),
        leave(Condition::Destination(loopback_v6), "loopback"),
        leave(Condition::Destination(link_local_v6), "bound to one interface"),
    ];
    rules.extend(skipped_ports(settings.skip_outbound_ports.ranges()));
    rules.extend(settings.skip_subnets.subnets().map(|subnet| leave(Condition::Destination(subnet), "skipped subnet")));
    rules.push(redirect(settings.outbound_port, "to the outbound proxy"));
    Chain { hook: Hook::Output, rules }
}

fn inbound(settings: &Settings) -> Chain {
    let mut rules = vec![
        leave(Condition::CameByLoopback, "stays within the pod"),
        leave(Condition::DestinationNotLocal, "only forwarded by the pod"),
        leave(Condition::TcpDestination(settings.admin_port.into()), "admin port of the proxy"),
    ];
    rules.extend(skipped_ports(settings.skip_inbound_ports.ranges()));
    rules.push(redirect(settings.inbound_port, "to the inbound proxy"));
    Chain { hook: Hook::Prerouting, rules }
}

fn skipped_ports(ranges: impl Iterator<Item = PortRange>) -> impl Iterator<Item = Rule> {
    ranges.map(|range| leave(Condition::TcpDestination(range), "skipped port"))
}

fn leave(condition: Condition, comment: &'static str) -> Rule {
    Rule { condition, action: Action::Return, comment }
}

fn redirect(port: Port, comment: &'static str) -> Rule {
    Rule { condition: Condition::Tcp, action: Action::Redirect(port), comment }
}
