//! Which rooms of a crate know which: every path in a file that leads out of the file's own room, whether by `crate::`,
//! by `super::`, or by the name of another crate of ours.

use super::arrows::Arrows;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use syn::{
    ItemMod, Macro, Path, UseTree,
    visit::{self, Visit},
};

/// What the table does not allow in the file at `path`.
pub(super) fn check(path: &str, text: &str, arrows: &Arrows) -> Result<Vec<String>> {
    let Some((house, module)) = place(path) else { return Ok(Vec::new()) };
    let foreign: Vec<_> = arrows.foreign_rooms.iter().filter(|((from, _), _)| *from == house).collect();
    let rooms = arrows.rooms.get(&house);
    if rooms.is_none() && foreign.is_empty() {
        return Ok(Vec::new());
    }
    let file = syn::parse_file(text).with_context(|| format!("{path} is not Rust"))?;
    let mut found = Found { module: module.clone(), paths: BTreeSet::new() };
    found.visit_file(&file);

    let mut faults = Vec::new();
    if let (Some(rooms), Some(room)) = (rooms, module.first()) {
        let Some(allowed) = rooms.get(room) else {
            return Ok(vec![format!("{path}: the room {room} is not in the table of who may know whom")]);
        };
        let out = found.paths.iter().filter(|(root, _)| root == "crate").map(|(_, other)| other);
        // What is no room is an item of lib.rs, which any room may use.
        for other in out.filter(|other| *other != room && rooms.contains_key(*other) && !allowed.contains(*other)) {
            faults.push(format!("{path}: {room} must not know {other}"));
        }
    }
    for ((_, other), allowed) in foreign {
        let name = format!("conduit_{}", other.replace('-', "_"));
        for (_, room) in found.paths.iter().filter(|(root, room)| *root == name && !allowed.contains(room)) {
            faults.push(format!("{path}: {house} must not know {room} of {other}"));
        }
    }
    Ok(faults)
}

/// The crate of a source file and its module path within; none for what is not a crate's own source. The roots of a
/// crate have an empty path: they name the rooms.
fn place(path: &str) -> Option<(String, Vec<String>)> {
    let (house, source) = path.strip_suffix(".rs")?.split_once("/src/")?;
    let mut module: Vec<_> = source.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    if module.len() == 1 && matches!(module[0].as_str(), "lib" | "main") {
        module.clear();
    }
    Some((house.to_owned(), module))
}

/// Paths of a file that lead out of it: the crate that they begin at, and the first name below.
struct Found {
    /// Where the visit is.
    module: Vec<String>,
    paths: BTreeSet<(String, String)>,
}

impl Found {
    fn note(&mut self, names: &[String]) {
        let Some(first) = names.first() else { return };
        let supers = names.iter().take_while(|name| *name == "super").count();
        if supers > 0 {
            // `super::` from a room of the crate's root leads into the root.
            let kept = self.module.len().saturating_sub(supers);
            let absolute: Vec<_> = self.module[..kept].iter().chain(&names[supers..]).cloned().collect();
            self.paths.extend(absolute.first().map(|room| ("crate".to_owned(), room.clone())));
        } else if let Some(second) = names.get(1).filter(|_| first == "crate" || first.starts_with("conduit_")) {
            self.paths.insert((first.clone(), second.clone()));
        }
    }

    fn note_use(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &dyn ToString| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.note_use(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.note(&with(&name.ident)),
            UseTree::Rename(rename) => self.note(&with(&rename.ident)),
            UseTree::Glob(_) => self.note(&with(&"*")),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_use(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.note(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    /// What stands in a macro is only tokens: a path there is names with `::` between them.
    fn visit_macro(&mut self, macro_: &'ast Macro) {
        let text = macro_.tokens.to_string().replace(" :: ", "::");
        for word in text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
            let names: Vec<_> = word.split("::").map(str::to_owned).collect();
            if names.len() > 1 {
                self.note(&names);
            }
        }
        visit::visit_macro(self, macro_);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "cli → operator (its room `inject` only)
operator:  app → {admission, discovery} → {inject, compile} → index";

    #[track_caller]
    fn faults(path: &str, text: &str) -> Vec<String> {
        check(path, text, &Arrows::parse(TABLE).unwrap()).unwrap()
    }

    #[test]
    fn an_arrow_that_is_in_the_table_is_fine_and_any_other_is_a_fault() {
        assert_eq!(
            faults("operator/src/admission/review.rs", "use crate::{index::View, inject::{self, Plan}};"),
            [""; 0]
        );
        assert_eq!(
            faults("operator/src/compile/mod.rs", "use crate::{index::View, discovery as d};"),
            ["operator/src/compile/mod.rs: compile must not know discovery",]
        );
        assert_eq!(
            faults("operator/src/admission/mod.rs", "use crate::discovery;"),
            ["operator/src/admission/mod.rs: admission must not know discovery",]
        );
    }

    #[test]
    fn a_path_is_found_wherever_it_stands() {
        let expected = ["operator/src/index/view.rs: index must not know compile"];
        for text in [
            "use super::super::compile::outbound;",
            "fn f() -> crate::compile::Compiled { todo() }",
            "fn f() { assert_eq!(1, crate::compile::one()); }",
            "mod tests { use super::super::super::compile; }",
            "use crate::compile as c;",
            "pub use crate::compile::*;",
        ] {
            assert_eq!(faults("operator/src/index/view.rs", text), expected, "{text}");
        }
        assert_eq!(
            faults("operator/src/index.rs", "use super::compile;"),
            ["operator/src/index.rs: index must not know compile"]
        );
    }

    #[test]
    fn within_a_room_and_in_the_roots_everything_is_allowed() {
        assert_eq!(
            faults("operator/src/index/view.rs", "use super::{lookup::Lookup, name}; use crate::index::pod;"),
            [""; 0]
        );
        assert_eq!(faults("operator/src/lib.rs", "use crate::{index, app};"), [""; 0]);
        assert_eq!(faults("operator/tests/serve.rs", "use conduit_operator::app;"), [""; 0]);
    }

    #[test]
    fn a_room_that_is_not_in_the_table_is_a_fault() {
        assert_eq!(
            faults("operator/src/shed.rs", ""),
            ["operator/src/shed.rs: the room shed is not in the table of who may know whom",]
        );
    }

    #[test]
    fn of_another_crate_only_the_rooms_in_the_table_are_known() {
        assert_eq!(faults("cli/src/main.rs", "use conduit_operator::inject::decide;"), [""; 0]);
        assert_eq!(
            faults("cli/src/main.rs", "fn f() { conduit_operator::index::View::new(); }"),
            ["cli/src/main.rs: cli must not know index of operator",]
        );
    }
}
