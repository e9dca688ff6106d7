//! How a proxy reads the bytes of a connection.

use crate::wire::{self, WireError};
use std::{fmt, str::FromStr};

/// The protocol that a port declares, or that it has to be detected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Nothing was declared: look at the first bytes.
    #[default]
    Detect,
    /// HTTP/1.0 and HTTP/1.1 (RFC 9112).
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 section 3.3).
    Http2,
    /// gRPC, over HTTP/2 with prior knowledge.
    Grpc,
    /// The application's own TLS: passes through untouched.
    Tls,
    /// Bytes, in either direction first.
    Opaque,
}

impl Protocol {
    /// Whether bytes pass through unread.
    pub fn is_opaque(self) -> bool {
        matches!(self, Self::Tls | Self::Opaque)
    }

    /// Writes the protocol as a message.
    pub fn to_wire(self) -> wire::Protocol {
        match self {
            Self::Detect => wire::Protocol::Detect,
            Self::Http1 => wire::Protocol::Http1,
            Self::Http2 => wire::Protocol::Http2,
            Self::Grpc => wire::Protocol::Grpc,
            Self::Tls => wire::Protocol::Tls,
            Self::Opaque => wire::Protocol::Opaque,
        }
    }

    /// Reads the protocol of `field`.
    pub fn from_wire(field: &str, value: i32) -> Result<Self, WireError> {
        match wire::Protocol::try_from(value) {
            Ok(wire::Protocol::Detect) => Ok(Self::Detect),
            Ok(wire::Protocol::Http1) => Ok(Self::Http1),
            Ok(wire::Protocol::Http2) => Ok(Self::Http2),
            Ok(wire::Protocol::Grpc) => Ok(Self::Grpc),
            Ok(wire::Protocol::Tls) => Ok(Self::Tls),
            Ok(wire::Protocol::Opaque) => Ok(Self::Opaque),
            Ok(wire::Protocol::Unspecified) | Err(_) => {
                Err(WireError::new(field, format!("must be a protocol, was {value}")))
            }
        }
    }
}

/// As users write it in a TrafficPolicy.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detect => "Detect",
            Self::Http1 => "HTTP1",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::Tls => "TLS",
            Self::Opaque => "Opaque",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Detect, Self::Http1, Self::Http2, Self::Grpc, Self::Tls, Self::Opaque]
            .into_iter()
            .find(|protocol| protocol.to_string() == text)
            .ok_or_else(|| format!("must be one of HTTP1, HTTP2, GRPC, TLS, Opaque, Detect, was {text:?}"))
    }
}
