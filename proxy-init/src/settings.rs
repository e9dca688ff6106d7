//! What the user asked for, parsed once into types that cannot hold nonsense. Knows neither flags' syntax beyond one
//! value at a time nor how rules are written.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnet::IpNet;

/// A TCP port, 1 to 65535.
pub type Port = NonZeroU16;

/// The most ranges or subnets in one list, counted after neighbours are merged.
///
/// The whole table travels in one netlink datagram, which must fit the default send buffer of a socket
/// (`net.core.wmem_default`, 212,992 bytes); a test of `wire` proves that three full lists do.
pub const MAX_ENTRIES: usize = 128;

/// Everything that decides the ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the proxy accepts what the application sends, on 127.0.0.1 and ::1.
    pub outbound_port: Port,
    /// Where the proxy accepts what others send to the pod.
    pub inbound_port: Port,
    /// The proxy's admin server, reached directly.
    pub admin_port: Port,
    /// The proxy's user id, as seen in the pod's user namespace; 1 to 4294967294.
    pub proxy_uid: u32,
    /// The pod's ports whose incoming connections bypass the proxy.
    pub skip_inbound_ports: PortSet,
    /// Destination ports that the application reaches directly.
    pub skip_outbound_ports: PortSet,
    /// Destination subnets that the application reaches directly.
    pub skip_subnets: SubnetSet,
}

impl Default for Settings {
    fn default() -> Self {
        const fn port(number: u16) -> Port {
            Port::new(number).expect("the default ports are not zero")
        }
        Settings {
            outbound_port: const { port(4140) },
            inbound_port: const { port(4143) },
            admin_port: const { port(4191) },
            proxy_uid: 2102,
            skip_inbound_ports: PortSet::default(),
            skip_outbound_ports: PortSet::default(),
            skip_subnets: SubnetSet::default(),
        }
    }
}

impl Settings {
    /// The settings, if they do not contradict each other.
    ///
    /// # Errors
    ///
    /// Two of the proxy's ports are the same.
    pub fn checked(self) -> Result<Self, SettingsError> {
        let ports = [
            ("--outbound-port", self.outbound_port),
            ("--inbound-port", self.inbound_port),
            ("--admin-port", self.admin_port),
        ];
        for (index, (flag, port)) in ports.iter().enumerate() {
            if let Some((other, _)) = ports[index + 1..].iter().find(|(_, other)| other == port) {
                return Err(SettingsError::SamePort { flag, other, port: *port });
            }
        }
        Ok(self)
    }
}

/// Values that do not parse, or that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SettingsError {
    #[error("{flag} and {other} are both {port}: expected a different port for each")]
    SamePort { flag: &'static str, other: &'static str, port: Port },
    #[error("expected a TCP port from 1 to 65535")]
    Port,
    #[error("expected a user id from 1 to 4294967294 (uid 0 would exempt everything that runs as root)")]
    ProxyUid,
    #[error("expected ports and port ranges from 1 to 65535, separated by commas, such as 25,100-200; got {item:?}")]
    PortRange { item: String },
    #[error("expected subnets in CIDR notation, separated by commas, such as 10.0.0.0/8,fd00::/8; got {item:?}")]
    Subnet { item: String },
    #[error("expected at most {MAX_ENTRIES} entries that do not overlap or touch; got {count}")]
    TooMany { count: usize },
}

/// Parses a TCP port.
///
/// # Errors
///
/// Not a number from 1 to 65535.
pub fn parse_port(text: &str) -> Result<Port, SettingsError> {
    text.parse().map_err(|_| SettingsError::Port)
}

/// Parses the proxy's user id.
///
/// # Errors
///
/// Not a number from 1 to 4294967294. Root would exempt every application that runs as root, and 4294967295 is the
/// kernel's "no user".
pub fn parse_proxy_uid(text: &str) -> Result<u32, SettingsError> {
    match text.parse() {
        Ok(0 | u32::MAX) | Err(_) => Err(SettingsError::ProxyUid),
        Ok(uid) => Ok(uid),
    }
}

/// An inclusive range of TCP ports; `first` is never above `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: Port,
    last: Port,
}

impl PortRange {
    /// The lowest port of the range.
    #[must_use]
    pub fn first(self) -> Port {
        self.first
    }

    /// The highest port of the range.
    #[must_use]
    pub fn last(self) -> Port {
        self.last
    }
}

impl From<Port> for PortRange {
    fn from(port: Port) -> Self {
        PortRange { first: port, last: port }
    }
}

impl FromStr for PortRange {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SettingsError::PortRange { item: text.to_owned() };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse::<Port>().map_err(|_| error());
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(error());
        }
        Ok(PortRange { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// Ports as ranges in ascending order that neither overlap nor touch; at most [`MAX_ENTRIES`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSet(Vec<PortRange>);

impl PortSet {
    /// The ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = PortRange> + '_ {
        self.0.iter().copied()
    }
}

impl FromStr for PortSet {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut ranges = items(text).map(str::parse).collect::<Result<Vec<PortRange>, _>>()?;
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let touches = next.first.get() <= kept.last.get().saturating_add(1);
            if touches {
                kept.last = kept.last.max(next.last);
            }
            touches
        });
        Ok(PortSet(bounded(ranges)?))
    }
}

/// Subnets of either IP version, without overlaps, host bits cleared; at most [`MAX_ENTRIES`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubnetSet(Vec<IpNet>);

impl SubnetSet {
    /// The subnets, IPv4 first, ascending.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.0.iter().copied()
    }
}

impl FromStr for SubnetSet {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let subnets = items(text)
            .map(|item| {
                let subnet = item.parse::<IpNet>().map_err(|_| SettingsError::Subnet { item: item.to_owned() })?;
                Ok(subnet.trunc())
            })
            .collect::<Result<Vec<IpNet>, SettingsError>>()?;
        Ok(SubnetSet(bounded(IpNet::aggregate(&subnets))?))
    }
}

/// The items of a list separated by commas, without the blanks around them. An empty text is an empty list, so that a
/// template may always pass the flag; an empty item is handed on, for its parser to refuse.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim();
    text.split(',').map(str::trim).filter(move |_| !text.is_empty())
}

fn bounded<T>(entries: Vec<T>) -> Result<Vec<T>, SettingsError> {
    match entries.len() {
        count if count > MAX_ENTRIES => Err(SettingsError::TooMany { count }),
        _ => Ok(entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> String {
        let set: PortSet = text.parse().unwrap();
        set.ranges().map(|range| range.to_string()).collect::<Vec<_>>().join(",")
    }

    fn subnets(text: &str) -> String {
        let set: SubnetSet = text.parse().unwrap();
        set.subnets().map(|subnet| subnet.to_string()).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn port_lists_are_sorted_and_merged() {
        let cases = [
            ("", ""),
            ("  ", ""),
            ("25", "25"),
            ("100-200, 25", "25,100-200"),
            ("80,81,82", "80-82"),
            ("1-65535,443", "1-65535"),
            ("10-20,15-30,31,40", "10-31,40"),
            ("65535,65534", "65534-65535"),
        ];
        for (text, expected) in cases {
            assert_eq!(ports(text), expected, "for {text:?}");
        }
    }

    #[test]
    fn subnet_lists_lose_host_bits_and_overlaps() {
        let cases = [
            ("", ""),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.0.0.0/8,10.1.0.0/16", "10.0.0.0/8"),
            ("fd00::/8, 192.168.0.0/16", "192.168.0.0/16,fd00::/8"),
            ("0.0.0.0/0,::/0", "0.0.0.0/0,::/0"),
            ("127.0.0.1/32,2001:db8::1/128", "127.0.0.1/32,2001:db8::1/128"),
        ];
        for (text, expected) in cases {
            assert_eq!(subnets(text), expected, "for {text:?}");
        }
    }

    #[test]
    fn a_bad_item_is_quoted_in_its_error() {
        for (text, item) in [("25,0", "0"), ("25,", ""), ("9-8", "9-8"), ("1-2-3", "1-2-3"), ("-5", "-5"), ("a", "a")] {
            assert_eq!(
                text.parse::<PortSet>(),
                Err(SettingsError::PortRange { item: item.to_owned() }),
                "for {text:?}"
            );
        }
        for (text, item) in [("10.0.0.0/8,x", "x"), ("10.0.0.1", "10.0.0.1"), ("::/129", "::/129")] {
            assert_eq!(text.parse::<SubnetSet>(), Err(SettingsError::Subnet { item: item.to_owned() }), "for {text:?}");
        }
    }

    #[test]
    fn a_list_past_its_maximum_is_refused_only_if_merging_does_not_help() {
        let list = |step: usize| (1..=MAX_ENTRIES + 1).map(|n| (n * step).to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(list(2).parse::<PortSet>(), Err(SettingsError::TooMany { count: MAX_ENTRIES + 1 }));
        assert_eq!(ports(&list(1)), "1-129");
    }
}
