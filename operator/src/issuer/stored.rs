//! What is kept of the mesh's identity, and its form in a Secret: a map of PEM entries.
//!
//! A part that cannot be read is named and counts as absent. The root is the part on which trust hangs: without it nothing
//! else is of use, and everything is made anew; an issuer that is broken is issued again, and costs nobody's trust.

use conduit_webhook_certs::{Authority, Entries, Parts, Read, TrustedAuthority};

const ROOT: [&str; 2] = ["root.crt", "root.key"];
const NEXT_ROOT: [&str; 2] = ["next-root.crt", "next-root.key"];
const PREVIOUS_ROOTS: &str = "previous-root.crt";
const ISSUER: [&str; 2] = ["issuer.crt", "issuer.key"];

/// The identity of a mesh. Clones share the keys.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The root that signs.
    pub root: Authority,
    /// The root that will sign next; trusted already.
    pub next_root: Option<Authority>,
    /// Roots that signed before, the last one first; trusted still, their keys are gone.
    pub previous_roots: Vec<TrustedAuthority>,
    /// What signs certificates; none where it could not be read.
    pub issuer: Option<Authority>,
}

/// Reads entries as [`Stored::entries`] wrote them.
pub fn read(entries: &Entries) -> Read<Stored> {
    let mut parts = Parts::new(entries);
    let root = parts.pair(ROOT, Authority::read);
    let next_root = parts.pair(NEXT_ROOT, Authority::read);
    let previous_roots = parts.single(PREVIOUS_ROOTS, TrustedAuthority::read_all).unwrap_or_default();
    let stored = root.map(|root| {
        let issuer = parts.pair(ISSUER, |pair| Authority::read_below(pair, &root));
        Stored { root, next_root, previous_roots, issuer }
    });
    parts.into_read(stored)
}

impl Stored {
    /// The entries to keep.
    pub fn entries(&self) -> Entries {
        let pairs = [(ROOT, Some(&self.root)), (NEXT_ROOT, self.next_root.as_ref()), (ISSUER, self.issuer.as_ref())];
        let pairs = pairs.into_iter().filter_map(|(names, authority)| Some((names, authority?)));
        let mut entries: Entries = pairs
            .flat_map(|([certificate, key], authority)| {
                [(certificate.to_owned(), authority.certificate().into()), (key.to_owned(), authority.key().into())]
            })
            .collect();
        if !self.previous_roots.is_empty() {
            let previous: String = self.previous_roots.iter().map(TrustedAuthority::to_pem).collect();
            entries.insert(PREVIOUS_ROOTS.to_owned(), previous.into());
        }
        entries
    }
}
