//! What is kept of the objects that users write for Conduit: what they declare, or why they cannot be read.
//!
//! An object that cannot be read is a value like any other. It keeps its faults for the object's status, and who it is
//! about, so that just those configurations say that they are no longer known.

use super::{
    fault::{Fault, FaultKind},
    name::ObjectName,
};
use conduit_model::{Protocol, Route};
use kube::core::Selector;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Protocol that clients of the targets speak.
    pub outbound_protocol: Option<Protocol>,
    /// Protocol that the targets' own pods take connections for.
    pub inbound_protocol: Option<Protocol>,
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
    /// Who it is about; empty where not even that can be read.
    pub targets: Vec<PolicyTarget>,
    /// What it declares.
    pub policy: Declared<Policy>,
}
