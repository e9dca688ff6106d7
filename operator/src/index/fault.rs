//! What is wrong with an object that a user wrote: which field, and what was expected there.
//!
//! Reading an object reports every fault at once. The same reading serves admission, which refuses or warns, and the
//! index, which must hold what slipped past admission; so both say the same words.

use std::fmt;

/// Something in an object that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path of the field, such as `spec.routes[1].condition.pathRegex`.
    pub path: String,
    /// What follows from it.
    pub kind: FaultKind,
    /// What was expected, and what was found where that helps.
    pub message: String,
}

/// What follows from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The object cannot be read; nothing of it is in effect.
    Invalid,
    /// The field has no effect yet; the rest of the object has.
    UnsupportedField,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The faults found so far while an object is read.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// The field at `path` is not what it must be.
    pub(super) fn invalid(&mut self, path: impl Into<String>, expected: impl Into<String>) {
        self.0.push(Fault { path: path.into(), kind: FaultKind::Invalid, message: expected.into() });
    }

    /// The field at `path` is well written, and nothing carries it out yet.
    pub(super) fn unsupported(&mut self, path: impl Into<String>) {
        self.0.push(Fault {
            path: path.into(),
            kind: FaultKind::UnsupportedField,
            message: "is not supported yet and has no effect".into(),
        });
    }

    /// Notes what is wrong with the field at `path`, if anything is, and gives its value.
    pub(super) fn check<T>(&mut self, path: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|expected| self.invalid(path, expected)).ok()
    }

    /// Notes a field at `path` that is not supported: that it has no effect, or what is wrong with it.
    pub(super) fn check_unsupported<T>(&mut self, path: &str, value: Result<T, String>) {
        match value {
            Ok(_) => self.unsupported(path),
            Err(expected) => self.invalid(path, expected),
        }
    }

    /// Checks the length of the list at `path` against `max`.
    pub(super) fn check_length<T>(&mut self, path: &str, items: &[T], max: usize) {
        match items.len() {
            0 => self.invalid(path, "must not be empty"),
            n if n > max => self.invalid(path, format!("must have at most {max} items, had {n}")),
            _ => {}
        }
    }

    /// `value` if the object can be read, and every fault.
    pub(super) fn with<T>(self, value: T) -> (Option<T>, Vec<Fault>) {
        let readable = self.0.iter().all(|fault| fault.kind != FaultKind::Invalid);
        (readable.then_some(value), self.0)
    }
}
