//! Ports in a row.

use crate::wire::{self, WireError};
use std::fmt;

/// Some ports in a row, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The ports from `first` to `last`; none where the first is above the last.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The lowest of them.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest of them.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether `port` is one of them.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// As a first port, and a last one that is 0 where there is but one.
    pub(crate) fn to_wire(self) -> (u32, u32) {
        (self.first.into(), if self.first == self.last { 0 } else { self.last.into() })
    }

    /// Reads a message's fields `port` and `last`.
    pub(crate) fn from_wire(port: u32, last: u32) -> Result<Self, WireError> {
        let first = wire::port("port", port)?;
        let range = match last {
            0 => Self::new(first, first),
            _ => Self::new(first, wire::port("last", last)?),
        };
        range.ok_or_else(|| WireError::new("last", format!("must not be below the first port, {first}, was {last}")))
    }
}

/// One port.
impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        Self { first: port, last: port }
    }
}

/// As users write it: `8080`, or `8000-8010`.
impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_a_row_survive_the_wire_and_read_as_users_write_them() {
        for (range, text) in [(8080.into(), "8080"), (PortRange::new(8000, 8010).unwrap(), "8000-8010")] {
            let (first, last) = range.to_wire();
            assert_eq!((PortRange::from_wire(first, last), range.to_string().as_str()), (Ok(range), text));
        }
        assert_eq!(PortRange::new(6, 5), None);
    }

    #[test]
    fn what_is_no_row_of_ports_is_refused_with_its_field() {
        let error = |port, last| PortRange::from_wire(port, last).unwrap_err().to_string();
        assert_eq!(error(0, 0), "port: must be a port from 1 to 65535, was 0");
        assert_eq!(error(80, 65_536), "last: must be a port from 1 to 65535, was 65536");
        assert_eq!(error(80, 79), "last: must not be below the first port, 80, was 79");
    }
}
