//! The objects that a configuration was made from, and how many proxies hold what was made from each.

use crate::index::{Kind, ObjectName, declared::Declared};
use conduit_model::ObjectRef;
use serde::{Deserialize, Serialize};

/// An object of Conduit's own kinds, as it was when a configuration was made from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// `ServiceProfile` or `TrafficPolicy`.
    pub kind: SourceKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its generation.
    pub generation: i64,
}

/// The kinds of objects that have a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SourceKind {
    ServiceProfile,
    TrafficPolicy,
}

/// How far one object has come on the proxies of one replica of the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programmed {
    /// Proxies that subscribe to something that was made from the object.
    pub proxies: usize,
    /// Those of them that have acknowledged all that was made from it, as it is now.
    pub current: usize,
    /// Those of them that have refused some of it.
    pub rejected: usize,
    /// Those of them for which other objects have the say on all that this one is about.
    #[serde(default)]
    pub overridden: usize,
}

impl Source {
    /// The ServiceProfile that was read.
    pub fn profile<T>(profile: &Declared<T>) -> Self {
        Self::new(SourceKind::ServiceProfile, profile)
    }

    /// The TrafficPolicy that was read.
    pub fn policy<T>(policy: &Declared<T>) -> Self {
        Self::new(SourceKind::TrafficPolicy, policy)
    }

    /// The object, whatever its generation.
    pub fn object(&self) -> ObjectRef {
        let kind = match self.kind {
            SourceKind::ServiceProfile => "ServiceProfile",
            SourceKind::TrafficPolicy => "TrafficPolicy",
        };
        ObjectRef { kind: kind.into(), namespace: self.namespace.clone(), name: self.name.clone() }
    }

    fn new<T>(kind: SourceKind, object: &Declared<T>) -> Self {
        let ObjectName { namespace, name } = object.name.clone();
        Self { kind, namespace, name, generation: object.generation }
    }
}

impl From<SourceKind> for Kind {
    fn from(kind: SourceKind) -> Self {
        match kind {
            SourceKind::ServiceProfile => Self::ServiceProfile,
            SourceKind::TrafficPolicy => Self::TrafficPolicy,
        }
    }
}
