//! Names of the cluster's objects, as every room of the operator speaks of them.

use std::fmt;

/// Name of an object and of the namespace that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Namespace; empty for objects of the cluster as a whole.
    pub namespace: String,
    /// Name within it.
    pub name: String,
}

impl ObjectName {
    /// The name `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// `<namespace>/<name>`, or the name alone where there is no namespace.
impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}
