//! What is kept of the objects that users write for Conduit: what they declare, or why they cannot be read.
//!
//! An object that cannot be read is a value like any other. It keeps its faults for the object's status, and who it is
//! about, so that just those configurations say that they are no longer known.

use super::{
    fault::{Fault, FaultKind},
    name::ObjectName,
};
use conduit_model::{InboundMtlsMode, OutboundTlsMode, Protocol, Route};
use kube::core::Selector;
use std::collections::BTreeSet;

/// An object of Conduit's own kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared<T> {
    /// Its name.
    pub name: ObjectName,
    /// Counts the changes of its spec.
    pub generation: i64,
    /// When it was created, in seconds since the epoch; of two policies on one level the oldest wins.
    pub created: i64,
    /// What it declares; none where it cannot be read.
    pub value: Option<T>,
    /// Everything that is wrong with it.
    pub faults: Vec<Fault>,
}

/// What a ServiceProfile declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Ordered: the first whose condition matches is taken.
    pub routes: Vec<Route>,
}

/// What a TrafficPolicy declares, as far as it is in effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Protocol that clients of the targets speak.
    pub outbound_protocol: Option<Protocol>,
    /// Whether clients of the targets encrypt.
    pub outbound_tls: Option<OutboundTlsMode>,
    /// Protocol that the targets' own pods take connections for.
    pub inbound_protocol: Option<Protocol>,
    /// Whom the targets' own pods serve.
    pub inbound_mtls: Option<InboundMtlsMode>,
}

/// A part of a TrafficPolicy that is taken whole from the one policy that has the say on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Block {
    OutboundProtocol,
    OutboundTls,
    InboundProtocol,
    InboundMtls,
}

/// Something in its own namespace that a TrafficPolicy is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyTarget {
    /// A Service, or its port of this name alone.
    Service {
        /// Name of the Service.
        name: String,
        /// Name of the port; every port where there is none.
        port: Option<String>,
    },
    /// Pods by their labels; inbound only.
    Pods(Selector),
    /// The whole namespace.
    Namespace,
    /// It cannot be read what: any Service or pod of the namespace may be meant.
    Unreadable,
    /// An object of a kind that no policy reaches yet. It is here to have its own line in the policy's status.
    Unsupported {
        /// API group of the kind.
        group: String,
        /// The kind.
        kind: String,
        /// Name of the object.
        name: String,
        /// The part of it.
        section: Option<String>,
    },
}

impl<T> Declared<T> {
    /// Why the object cannot be read, in one line; none where it can.
    pub fn unreadable(&self) -> Option<String> {
        if self.value.is_some() {
            return None;
        }
        let faults = self.faults.iter().filter(|fault| fault.kind == FaultKind::Invalid);
        Some(faults.map(Fault::to_string).collect::<Vec<_>>().join("; "))
    }
}

/// A TrafficPolicy with its targets, which are known even where the rest cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetedPolicy {
    /// Who it is about.
    pub targets: Vec<PolicyTarget>,
    /// What it has a say on, whether or not that can be read.
    pub sets: BTreeSet<Block>,
    /// What it declares.
    pub policy: Declared<Policy>,
}

impl Policy {
    /// The blocks that it has.
    pub fn blocks(&self) -> BTreeSet<Block> {
        let Self { outbound_protocol, outbound_tls, inbound_protocol, inbound_mtls } = self;
        let blocks = [
            (Block::OutboundProtocol, outbound_protocol.is_some()),
            (Block::OutboundTls, outbound_tls.is_some()),
            (Block::InboundProtocol, inbound_protocol.is_some()),
            (Block::InboundMtls, inbound_mtls.is_some()),
        ];
        blocks.into_iter().filter(|(_, set)| *set).map(|(block, _)| block).collect()
    }
}

impl Block {
    /// Every block, with the field of `spec` that holds it and its name there.
    pub const ALL: [(Self, &str, &str); 4] = [
        (Self::OutboundProtocol, "outbound", "protocol"),
        (Self::OutboundTls, "outbound", "tls"),
        (Self::InboundProtocol, "inbound", "protocol"),
        (Self::InboundMtls, "inbound", "mtls"),
    ];
}

impl TargetedPolicy {
    /// Whether a client may have to refuse plaintext because of it.
    pub fn may_require_tls(&self) -> bool {
        match &self.policy.value {
            Some(policy) => policy.outbound_tls == Some(OutboundTlsMode::Require),
            None => self.sets.contains(&Block::OutboundTls),
        }
    }
}
