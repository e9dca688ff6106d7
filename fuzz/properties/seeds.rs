//! The seeds of a fuzz target, for tests that replay them without the fuzzer.

use std::{fs, path::Path};

/// Calls `holds` with each seed of `target`, naming it where it panics.
pub fn replay(target: &str, holds: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut seeds: Vec<_> =
        fs::read_dir(&folder).expect("the seeds are there").map(|seed| seed.expect("a seed").path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} is empty", folder.display());
    for seed in seeds {
        println!("{}", seed.display());
        holds(&fs::read(&seed).expect("a seed can be read"));
    }
}
