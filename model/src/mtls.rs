//! Whether connections are encrypted and authenticated: what policy says on either side, and what follows from it.

use crate::{
    endpoint::EndpointProxy,
    route::ObjectRef,
    wire::{self, WireError, required},
};

/// Offered and chosen by ALPN (RFC 7301) between proxies whose connection carries HTTP/2.
pub const ALPN_HTTP2: &[u8] = b"conduit/h2";
/// The same for HTTP/1.
pub const ALPN_HTTP1: &[u8] = b"conduit/http1";
/// The same for bytes that are not read.
pub const ALPN_TCP: &[u8] = b"conduit/tcp";

/// Roots that a trust bundle holds at most: more than any rotation needs, so that a larger bundle is a mistake.
pub const MAX_ROOTS: usize = 64;

/// What a pod takes on a port, and which policy says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundMtls {
    /// What is taken.
    pub mode: InboundMtlsMode,
    /// The policy that says so; none where it is the default.
    pub source: Option<ObjectRef>,
}

/// What a pod takes on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InboundMtlsMode {
    /// Only peers with a verified identity.
    Strict,
    /// Others too.
    Permissive,
    /// Peers are told to send plaintext. One that has not heard of it yet is served nevertheless.
    Disable,
}

/// What clients do with a destination, and which policy says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundTls {
    /// What they do.
    pub mode: OutboundTlsMode,
    /// The policy that says so; none where it is the default.
    pub source: Option<ObjectRef>,
}

/// What clients do with a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutboundTlsMode {
    /// An endpoint that cannot be authenticated is not used.
    Require,
    /// An endpoint that takes mutual TLS gets it, with no way back; others get plaintext.
    Prefer,
    /// Every endpoint gets plaintext.
    Disable,
}

/// How a connection to an endpoint is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// With mutual TLS, to nobody but the endpoint's workload.
    Mtls,
    /// As it is.
    Plaintext,
    /// Not at all: policy requires what the endpoint does not take.
    Refused,
}

impl InboundMtls {
    /// What holds where no policy says anything: whoever has an identity is verified, and others are served too.
    pub const DEFAULT: Self = Self { mode: InboundMtlsMode::Permissive, source: None };

    /// Writes it as a message.
    pub fn to_wire(&self) -> wire::InboundMtls {
        let mode = match self.mode {
            InboundMtlsMode::Strict => wire::InboundMtlsMode::Strict,
            InboundMtlsMode::Permissive => wire::InboundMtlsMode::Permissive,
            InboundMtlsMode::Disable => wire::InboundMtlsMode::Disable,
        };
        wire::InboundMtls { mode: mode.into(), source: self.source.as_ref().map(ObjectRef::to_wire) }
    }

    /// Reads it from a message, which must be there: what secures a port is never left to a default.
    pub fn from_wire(field: &str, message: Option<wire::InboundMtls>) -> Result<Self, WireError> {
        let wire::InboundMtls { mode, source } = required(field, message)?;
        let mode = match wire::InboundMtlsMode::try_from(mode) {
            Ok(wire::InboundMtlsMode::Strict) => InboundMtlsMode::Strict,
            Ok(wire::InboundMtlsMode::Permissive) => InboundMtlsMode::Permissive,
            Ok(wire::InboundMtlsMode::Disable) => InboundMtlsMode::Disable,
            Ok(wire::InboundMtlsMode::Unspecified) | Err(_) => {
                let expected = format!("must be strict, permissive or disable, was {mode}");
                return Err(WireError::new("mode", expected).within(field));
            }
        };
        Ok(Self { mode, source: source.map(ObjectRef::from_wire) })
    }
}

impl OutboundTls {
    /// What holds where no policy says anything.
    pub const DEFAULT: Self = Self { mode: OutboundTlsMode::Prefer, source: None };

    /// Writes it as a message.
    pub fn to_wire(&self) -> wire::OutboundTls {
        wire::OutboundTls { mode: self.mode.to_wire().into(), source: self.source.as_ref().map(ObjectRef::to_wire) }
    }

    /// Reads it from a message, which must be there: what secures a destination is never left to a default.
    pub fn from_wire(field: &str, message: Option<wire::OutboundTls>) -> Result<Self, WireError> {
        let wire::OutboundTls { mode, source } = required(field, message)?;
        let mode = OutboundTlsMode::from_wire("mode", mode).map_err(|e| e.within(field))?;
        Ok(Self { mode, source: source.map(ObjectRef::from_wire) })
    }
}

impl OutboundTlsMode {
    /// How a connection is opened to an endpoint that `proxy` serves.
    pub fn transport(self, proxy: EndpointProxy) -> Transport {
        match (self, proxy) {
            (Self::Require | Self::Prefer, EndpointProxy::Mtls) => Transport::Mtls,
            (Self::Require, EndpointProxy::None | EndpointProxy::Plaintext) => Transport::Refused,
            (Self::Prefer, EndpointProxy::None | EndpointProxy::Plaintext) | (Self::Disable, _) => Transport::Plaintext,
        }
    }

    pub(crate) fn to_wire(self) -> wire::OutboundTlsMode {
        match self {
            Self::Require => wire::OutboundTlsMode::Require,
            Self::Prefer => wire::OutboundTlsMode::Prefer,
            Self::Disable => wire::OutboundTlsMode::Disable,
        }
    }

    pub(crate) fn from_wire(field: &str, value: i32) -> Result<Self, WireError> {
        match wire::OutboundTlsMode::try_from(value) {
            Ok(wire::OutboundTlsMode::Require) => Ok(Self::Require),
            Ok(wire::OutboundTlsMode::Prefer) => Ok(Self::Prefer),
            Ok(wire::OutboundTlsMode::Disable) => Ok(Self::Disable),
            Ok(wire::OutboundTlsMode::Unspecified) | Err(_) => {
                Err(WireError::new(field, format!("must be require, prefer or disable, was {value}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_mutual_tls_gets_it_and_what_must_have_it_gets_nothing_less() {
        use {EndpointProxy as Proxy, OutboundTlsMode as Mode, Transport as To};
        for (mode, proxy, expected) in [
            (Mode::Require, Proxy::Mtls, To::Mtls),
            (Mode::Require, Proxy::Plaintext, To::Refused),
            (Mode::Require, Proxy::None, To::Refused),
            (Mode::Prefer, Proxy::Mtls, To::Mtls),
            (Mode::Prefer, Proxy::Plaintext, To::Plaintext),
            (Mode::Prefer, Proxy::None, To::Plaintext),
            (Mode::Disable, Proxy::Mtls, To::Plaintext),
            (Mode::Disable, Proxy::None, To::Plaintext),
        ] {
            assert_eq!(mode.transport(proxy), expected, "{mode:?} {proxy:?}");
        }
    }

    #[test]
    fn what_secures_a_connection_is_never_left_to_a_default() {
        let error = InboundMtls::from_wire("mtls", None).unwrap_err();
        assert_eq!(error.to_string(), "mtls: is required");
        let error = OutboundTls::from_wire("tls", Some(wire::OutboundTls::default())).unwrap_err();
        assert_eq!(error.to_string(), "tls.mode: must be require, prefer or disable, was 0");
    }
}
