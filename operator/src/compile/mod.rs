//! From what the cluster holds to what a proxy is told.
//!
//! Pure: a function of the objects alone, so that every replica of the operator gives the same answer, and the same
//! version of it. This room must not know who asks, what was sent before, or what time it is.

mod endpoints;
mod inbound;
mod outbound;
mod policy;
pub mod programmed;
mod protocol;
mod routes;

#[cfg(test)]
mod tests;

pub use endpoints::{Endpoints, endpoints};
pub use inbound::inbound;
pub use outbound::outbound;
pub use programmed::{Programmed, Source};

use crate::index::Fact;
use std::{collections::BTreeSet, fmt};

/// What the objects come to, and which they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled<T> {
    /// The configuration, or why it is not all known.
    pub config: Result<T, Invalid<T>>,
    /// The objects of Conduit's own kinds that it was made from, for their status.
    pub sources: BTreeSet<Source>,
    /// Those that have a say on it, too, if another did not have it before them.
    pub overridden: BTreeSet<Source>,
    /// What it would be compiled again for.
    pub facts: BTreeSet<Fact>,
}

/// An object that a configuration needs cannot be read. Who holds an earlier configuration is better off with that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid<T> {
    /// The object; the first, where there are several.
    pub unreadable: Unreadable,
    /// For who holds nothing: what the other objects say, with whatever secures it closed.
    pub meanwhile: T,
}

/// An object that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The object, as kind, namespace and name.
    pub object: String,
    /// Why, in one line.
    pub reason: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// What a compilation has looked at so far.
#[derive(Debug, Default)]
struct Trace {
    sources: BTreeSet<Source>,
    overridden: BTreeSet<Source>,
    facts: BTreeSet<Fact>,
    unreadable: Option<Unreadable>,
}

impl Trace {
    fn depends_on(&mut self, fact: Fact) {
        self.facts.insert(fact);
    }

    fn made_from(&mut self, source: Source) {
        self.sources.insert(source);
    }

    fn passed_over(&mut self, source: Source) {
        self.overridden.insert(source);
    }

    fn cannot_read(&mut self, unreadable: Unreadable) {
        self.unreadable.get_or_insert(unreadable);
    }

    /// What was read, or what holds as long as it cannot be.
    fn read<T>(&mut self, read: Result<T, Unreadable>, meanwhile: T) -> T {
        read.unwrap_or_else(|unreadable| {
            self.cannot_read(unreadable);
            meanwhile
        })
    }

    fn give<T>(self, config: T) -> Compiled<T> {
        let config = match self.unreadable {
            None => Ok(config),
            Some(unreadable) => Err(Invalid { unreadable, meanwhile: config }),
        };
        Compiled { config, sources: self.sources, overridden: self.overridden, facts: self.facts }
    }
}
