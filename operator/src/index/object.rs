//! The kinds of objects that the index keeps, in one type, so that `apply`, `delete` and `reset` exist once for all of
//! them and for both sources, the API server and manifests.

use super::{
    declared::{Declared, Profile, TargetedPolicy},
    name::ObjectName,
    namespace::Namespace,
    node::Node,
    pod::Pod,
    service::Service,
    slice::Slice,
};

/// A kind of object that the index keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
    Namespace,
    Node,
    Service,
    EndpointSlice,
    Pod,
    ServiceProfile,
    TrafficPolicy,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Namespace,
        Self::Node,
        Self::Service,
        Self::EndpointSlice,
        Self::Pod,
        Self::ServiceProfile,
        Self::TrafficPolicy,
    ];

    /// Whether its objects belong to namespaces.
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }
}

/// What is kept of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Object {
    Namespace(Namespace),
    Node(Node),
    Service(Service),
    EndpointSlice(Slice),
    Pod(Pod),
    ServiceProfile(Declared<Profile>),
    TrafficPolicy(TargetedPolicy),
}

/// Kind and name of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: ObjectName,
}

impl Object {
    /// Kind and name.
    pub fn key(&self) -> Key {
        let (kind, name) = match self {
            Self::Namespace(namespace) => (Kind::Namespace, ObjectName::new("", &namespace.name)),
            Self::Node(node) => (Kind::Node, ObjectName::new("", &node.name)),
            Self::Service(service) => (Kind::Service, service.name.clone()),
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, slice.name.clone()),
            Self::Pod(pod) => (Kind::Pod, pod.name.clone()),
            Self::ServiceProfile(profile) => (Kind::ServiceProfile, profile.name.clone()),
            Self::TrafficPolicy(policy) => (Kind::TrafficPolicy, policy.policy.name.clone()),
        };
        Key { kind, name }
    }
}
