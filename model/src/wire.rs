//! The generated messages of the contracts, and the one error that reading them can give.
//!
//! Each type of this crate has `to_wire` and `from_wire` beside it. Reading is all or nothing: a message that holds
//! something this proxy does not understand is refused whole, with the field's path.

#[allow(missing_docs, clippy::all, unreachable_pub)]
mod generated {
    tonic::include_proto!("conduit.discovery.v1");
}

/// The messages of the identity contract.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod identity {
    tonic::include_proto!("conduit.identity.v1");
}

pub use generated::*;

/// A discovery message that cannot be understood: which field, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {expected}")]
pub struct WireError {
    /// Path of the field within its message, such as `routes[2].condition.path_regex`.
    pub field: String,
    /// What was expected there, and what was found where that helps.
    pub expected: String,
}

impl WireError {
    pub(crate) fn new(field: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { field: field.into(), expected: expected.into() }
    }

    /// The same error, seen from the message that holds `parent`.
    pub(crate) fn within(mut self, parent: impl std::fmt::Display) -> Self {
        self.field = match self.field.as_bytes().first() {
            None => parent.to_string(),
            Some(b'[') => format!("{parent}{}", self.field),
            Some(_) => format!("{parent}.{}", self.field),
        };
        self
    }
}

/// The message behind an optional field, or the error that it is missing.
pub(crate) fn required<T>(field: &str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or_else(|| WireError::new(field, "is required"))
}

/// Reads every item of a repeated field; an error names the item.
pub(crate) fn each<W, T>(
    field: &str,
    items: Vec<W>,
    read: impl Fn(W) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| read(item).map_err(|e| e.within(format_args!("{field}[{i}]"))))
        .collect()
}

/// A TCP port, 1 to 65,535.
pub(crate) fn port(field: &str, port: u32) -> Result<u16, WireError> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| WireError::new(field, format!("must be a port from 1 to 65535, was {port}")))
}
