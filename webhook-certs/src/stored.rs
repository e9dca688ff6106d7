//! What is kept of a serving identity, and its form in a Secret: a map of PEM entries.
//!
//! Reading is per part. A part that cannot be read is an [`EntryError`] that names the entry, and counts as absent, so
//! that it is issued anew: garbage is never served. The authority is the part on which trust hangs: without it nothing
//! else is of use, and everything is made anew; a broken serving certificate alone costs nobody's trust.

use crate::{Authority, Entries, Leaf, Parts, Read, TrustedAuthority, to_pem};

const AUTHORITY: [&str; 2] = ["ca.crt", "ca.key"];
const NEXT: [&str; 2] = ["next-ca.crt", "next-ca.key"];
const PREVIOUS: &str = "previous-ca.crt";
const LEAF: [&str; 2] = ["tls.crt", "tls.key"];

/// A serving identity: the authorities that peers trust, and what is served.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The authority that signs.
    pub authority: Authority,
    /// The authority that will sign next; trusted already.
    pub next: Option<Authority>,
    /// The authority that signed before; trusted still, its key is gone.
    pub previous: Option<TrustedAuthority>,
    /// What is served; none where it could not be read.
    pub leaf: Option<Leaf>,
}

/// Reads entries as [`Stored::entries`] wrote them.
pub fn read(entries: &Entries) -> Read<Stored> {
    let mut parts = Parts::new(entries);
    let authority = parts.pair(AUTHORITY, Authority::read);
    let next = parts.pair(NEXT, Authority::read);
    let previous = parts.single(PREVIOUS, TrustedAuthority::read_all).map(|mut all| all.swap_remove(0));
    let stored = authority.map(|authority| {
        let leaf = parts.pair(LEAF, |pair| Leaf::read_below(pair, &authority));
        Stored { authority, next, previous, leaf }
    });
    parts.into_read(stored)
}

impl Stored {
    /// The entries to keep.
    pub fn entries(&self) -> Entries {
        let mut entries = Entries::new();
        let mut put = |name: &str, pem: &str| entries.insert(name.to_owned(), pem.as_bytes().to_vec());
        put(AUTHORITY[0], self.authority.certificate());
        put(AUTHORITY[1], &self.authority.key());
        if let Some(next) = &self.next {
            put(NEXT[0], next.certificate());
            put(NEXT[1], &next.key());
        }
        if let Some(previous) = &self.previous {
            put(PREVIOUS, &previous.to_pem());
        }
        if let Some(leaf) = &self.leaf {
            put(LEAF[0], leaf.certificate());
            put(LEAF[1], &leaf.key());
        }
        entries
    }

    /// Every authority that peers have to trust, in PEM, one after the other.
    pub fn bundle(&self) -> String {
        // Written anew: whatever else stands in an entry, such as a key, is not published.
        let authorities = std::iter::once(&self.authority).chain(&self.next).map(|authority| to_pem(authority.der()));
        authorities.chain(self.previous.as_ref().map(TrustedAuthority::to_pem)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Step, apply};
    use std::collections::BTreeSet;
    use time::OffsetDateTime;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00 UTC);

    fn entries() -> Entries {
        let names = BTreeSet::from(["conduit-operator.conduit.svc".to_owned()]);
        let mut stored = None;
        for step in [Step::Everything, Step::NextAuthority, Step::TakeOver, Step::NextAuthority] {
            stored = Some(apply(step, stored, &names, NOW).unwrap());
        }
        stored.unwrap().entries()
    }

    #[test]
    fn entries_that_nobody_filled_are_no_fault() {
        let read = read(&Entries::new());
        assert!(read.stored.is_none() && read.faults.is_empty());
    }

    #[test]
    fn what_was_written_is_read_back_whole() {
        let written = entries();
        let back = read(&written);
        assert_eq!(back.faults, []);
        assert_eq!(back.stored.unwrap().entries(), written);
        assert_eq!(written.len(), 7);
    }

    #[test]
    fn the_bundle_holds_every_authority_once() {
        let bundle = read(&entries()).stored.unwrap().bundle();
        assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 3);
        assert!(!bundle.contains("PRIVATE"));
    }

    #[test]
    fn a_key_that_stands_beside_an_authority_is_not_published() {
        let mut spilled = entries();
        for (certificate, key) in [("ca.crt", "ca.key"), ("next-ca.crt", "next-ca.key")] {
            let both = [&spilled[certificate][..], &spilled[key]].concat();
            spilled.insert(certificate.to_owned(), both);
        }
        let stored = read(&spilled).stored.unwrap();
        assert!(!stored.bundle().contains("PRIVATE"), "{}", stored.bundle());
        assert_eq!(stored.bundle().matches("BEGIN CERTIFICATE").count(), 3);
    }

    #[test]
    fn a_broken_part_is_named_and_counts_as_absent_while_the_rest_is_kept() {
        let good = entries();
        let foreign = entries();
        /// An entry, its new value, what is said of it, and whether authority, leaf and next authority are lost.
        type Row<'a> = (&'a str, Option<&'a [u8]>, &'a str, [bool; 3]);
        let table: [Row<'_>; 9] = [
            ("ca.crt", Some(b"garbage"), "ca.crt: must be a certificate in PEM", [true, true, true]),
            ("ca.key", None, "ca.key: must be there, as ca.crt is", [true, true, true]),
            ("ca.crt", Some(&good["tls.crt"]), "ca.crt: must be the certificate of an authority", [true, true, true]),
            ("ca.key", Some(&foreign["ca.key"]), "ca.key: must be the private key of ca.crt", [true, true, true]),
            ("tls.key", Some(b"\xff"), "tls.key: must be a private key in PEM", [false, true, false]),
            ("tls.key", Some(&good["ca.key"]), "tls.key: must be the private key of tls.crt", [false, true, false]),
            ("tls.crt", None, "tls.crt: must be there, as tls.key is", [false, true, false]),
            (
                "next-ca.key",
                Some(b"x"),
                "next-ca.key: must be a private key in PEM (PKCS #8, PKCS #1 or SEC 1), not encrypted",
                [false, false, true],
            ),
            ("previous-ca.crt", Some(b""), "previous-ca.crt: must be a certificate in PEM", [false, false, false]),
        ];
        for (entry, value, said, lost) in table {
            let mut broken = good.clone();
            match value {
                Some(value) => broken.insert(entry.to_owned(), value.to_vec()),
                None => broken.remove(entry),
            };
            let read = read(&broken);
            let faults: Vec<_> = read.faults.iter().map(ToString::to_string).collect();
            assert!(faults.len() == 1 && faults[0].starts_with(said), "{entry}: {faults:?}");
            let stored = read.stored.as_ref();
            let is_lost = [
                stored.is_none(),
                stored.and_then(|stored| stored.leaf.as_ref()).is_none(),
                stored.and_then(|stored| stored.next.as_ref()).is_none(),
            ];
            assert_eq!(is_lost, lost, "{entry}");
        }
    }

    #[test]
    fn a_leaf_of_another_authority_is_not_served() {
        let (mut mixed, other) = (entries(), entries());
        for entry in ["tls.crt", "tls.key"] {
            mixed.insert(entry.to_owned(), other[entry].clone());
        }
        let read = read(&mixed);
        assert_eq!(read.faults[0].to_string(), "tls.crt: must be signed by the stored authority");
        assert!(read.stored.unwrap().leaf.is_none());
    }

    #[test]
    fn a_private_key_never_shows_in_debug_output() {
        let stored = read(&entries()).stored.unwrap();
        let shown = format!("{stored:?}");
        assert!(!shown.contains("PRIVATE") && !shown.contains("KeyPair"), "{shown}");
    }
}
