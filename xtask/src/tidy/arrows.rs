//! Who may know whom: the table of ARCHITECTURE.md, as data.
//!
//! A chain `a → {b, c} → d` lets each room know all that stand to its right, and none beside it. What stands in the table as
//! a crate is no room.

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// The table; ARCHITECTURE.md holds the same text.
pub(super) const TABLE: &str = include_str!("arrows.txt");

/// Names by the one that may know them.
type Table = BTreeMap<String, BTreeSet<String>>;

/// Who may know whom.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Arrows {
    /// Between our crates, by their folders.
    pub(super) crates: Table,
    /// Within a crate, between its rooms.
    pub(super) rooms: BTreeMap<String, Table>,
    /// The rooms of another crate that a crate may know, where it may not know all: by the crate, then by the other.
    pub(super) foreign_rooms: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Arrows {
    /// Reads the table.
    pub(super) fn parse(table: &str) -> Result<Self> {
        let mut arrows = Self::default();
        let mut house = None;
        for line in table.lines().filter(|line| !line.trim().is_empty()) {
            if let Some((name, chain)) = line.split_once(':') {
                house = Some(name.trim().to_owned());
                arrows.chain(name.trim(), chain);
            } else if let Some(name) = house.clone().filter(|_| line.starts_with(' ')) {
                arrows.chain(&name, line);
            } else {
                arrows.crates(line)?;
            }
        }
        Ok(arrows)
    }

    /// `a, b → c, d (its room `r` only)`.
    fn crates(&mut self, line: &str) -> Result<()> {
        let (from, to) = line.split_once('→').with_context(|| format!("no arrow in {line:?}"))?;
        for from in names(from) {
            let known = self.crates.entry(from.clone()).or_default();
            if to.trim() == "none of ours" {
                continue;
            }
            for item in to.split(',').map(str::trim) {
                let (name, rooms) = match item.split_once(" (its room `") {
                    Some((name, rooms)) => {
                        (name, Some(rooms.strip_suffix("` only)").with_context(|| format!("cannot read {item:?}"))?))
                    }
                    None => (item, None),
                };
                ensure!(!name.contains(' '), "cannot read {item:?}");
                known.insert(name.to_owned());
                if let Some(room) = rooms {
                    self.foreign_rooms.entry((from.clone(), name.to_owned())).or_default().insert(room.to_owned());
                }
            }
        }
        Ok(())
    }

    /// `a → {b, c} → d` within the crate `house`.
    fn chain(&mut self, house: &str, chain: &str) {
        let steps: Vec<Vec<String>> = chain.split('→').map(names).collect();
        let table = self.rooms.entry(house.to_owned()).or_default();
        for (i, step) in steps.iter().enumerate() {
            for room in step.iter().filter(|room| !self.crates.contains_key(*room)) {
                let below = steps[i + 1..].iter().flatten().filter(|room| !self.crates.contains_key(*room));
                table.entry(room.clone()).or_default().extend(below.cloned());
            }
        }
    }
}

fn names(list: &str) -> Vec<String> {
    list.trim().trim_matches(['{', '}']).split(',').map(|name| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_chain_lets_each_know_all_to_its_right_and_none_beside_it() {
        let arrows = Arrows::parse(
            "model → none of ours\nproxy:  app → {inbound, outbound} → http → model\n        http → record",
        );
        let table = &arrows.unwrap().rooms["proxy"];
        assert_eq!(table["app"], set(&["http", "inbound", "outbound"]));
        assert_eq!(table["inbound"], set(&["http"]));
        assert_eq!(table["http"], set(&["record"]));
        assert!(!table.contains_key("model"), "a crate is no room");
    }

    #[test]
    fn a_crate_may_know_one_room_of_another() {
        let arrows = Arrows::parse("cli, e2e → crds, operator (its room `inject` only)").unwrap();
        assert_eq!(arrows.crates["e2e"], set(&["crds", "operator"]));
        assert_eq!(arrows.foreign_rooms[&("cli".into(), "operator".into())], set(&["inject"]));
    }

    #[test]
    fn a_line_that_is_no_arrow_is_refused() {
        assert!(Arrows::parse("cli and e2e").is_err());
        assert!(Arrows::parse("cli → one of ours").is_err());
    }

    #[test]
    fn the_table_is_read() {
        let arrows = Arrows::parse(TABLE).unwrap();
        assert_eq!(arrows.crates["proxy"], set(&["model"]));
        assert_eq!(arrows.rooms["operator"]["compile"], set(&["index"]));
        assert_eq!(arrows.rooms["operator"]["index"], set(&[]));
    }
}
