//! Reading back what is kept.

use super::*;

/// Every entry that there can be: two previous roots and a next one.
fn entries() -> Entries {
    let mut stored = fresh();
    for round in 0..2 {
        stored = settle(Some(stored), Some(Rotate::Root), &Lifetimes::default(), START + round * DAY).unwrap().stored;
        stored = settled(stored, START + (round + 1) * DAY).stored;
    }
    settle(Some(stored), Some(Rotate::Root), &Lifetimes::default(), START + 2 * DAY).unwrap().stored.entries()
}

#[test]
fn entries_that_nobody_filled_are_no_fault() {
    let read = read(&Entries::new());
    assert!(read.stored.is_none() && read.faults.is_empty());
}

#[test]
fn what_was_written_is_read_back_whole() {
    let written = entries();
    let names: Vec<_> = written.keys().map(String::as_str).collect();
    let expected =
        ["issuer.crt", "issuer.key", "next-root.crt", "next-root.key", "previous-root.crt", "root.crt", "root.key"];
    assert_eq!(names, expected);
    let back = read(&written);
    assert_eq!(back.faults, []);
    let stored = back.stored.unwrap();
    assert_eq!(stored.previous_roots.len(), 2);
    assert_eq!(stored.entries(), written);
    let bundle = Issuer::from_stored(&stored).unwrap().trust_bundle().to_pem();
    assert_eq!(bundle.matches("-----BEGIN CERTIFICATE-----\n").count(), 4);
    assert!(bundle.as_bytes().starts_with(&written["root.crt"]), "the root that signs is the first");
}

#[test]
fn a_broken_part_is_named_and_counts_as_absent_while_the_rest_is_kept() {
    let (good, foreign) = (entries(), entries());
    let leaf = Issuer::from_stored(&read(&good).stored.unwrap()).unwrap().serving(&["x".into()].into(), DAY, START);
    let leaf = leaf.unwrap().certificate().as_bytes().to_vec();
    /// An entry, its new value, what is said of it, and whether root, issuer, next root and previous roots are lost.
    type Row<'a> = (&'a str, Option<&'a [u8]>, &'a str, [bool; 4]);
    let all = [true; 4];
    let [issuer, next, previous] = [1, 2, 3].map(|part| std::array::from_fn(|lost| lost == part));
    let table: [Row<'_>; 12] = [
        ("root.crt", Some(b"garbage"), "root.crt: must be a certificate in PEM: there is none", all),
        ("root.crt", Some(&leaf), "root.crt: must be the certificate of an authority", all),
        ("root.crt", None, "root.crt: must be there, as root.key is", all),
        ("root.key", None, "root.key: must be there, as root.crt is", all),
        ("root.key", Some(&foreign["root.key"]), "root.key: must be the private key of root.crt", all),
        ("issuer.key", Some(b"\xff"), "issuer.key: must be a private key in PEM", issuer),
        ("issuer.key", Some(&good["root.key"]), "issuer.key: must be the private key of issuer.crt", issuer),
        ("issuer.crt", None, "issuer.crt: must be there, as issuer.key is", issuer),
        ("issuer.crt", Some(&leaf), "issuer.crt: must be the certificate of an authority", issuer),
        ("next-root.key", Some(b"x"), "next-root.key: must be a private key in PEM", next),
        ("next-root.crt", Some(b""), "next-root.crt: must be a certificate in PEM", next),
        ("previous-root.crt", Some(&leaf), "previous-root.crt: must be the certificate of an authority", previous),
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
            stored.and_then(|stored| stored.issuer.as_ref()).is_none(),
            stored.and_then(|stored| stored.next_root.as_ref()).is_none(),
            stored.is_none_or(|stored| stored.previous_roots.is_empty()),
        ];
        assert_eq!(is_lost, lost, "{entry}");
    }
}

#[test]
fn an_issuer_of_another_root_signs_nothing() {
    let (mut mixed, other) = (entries(), entries());
    for entry in ["issuer.crt", "issuer.key"] {
        mixed.insert(entry.to_owned(), other[entry].clone());
    }
    let read = read(&mixed);
    assert_eq!(read.faults[0].to_string(), "issuer.crt: must be signed by the stored authority above it");
    assert!(read.stored.unwrap().issuer.is_none());
}
