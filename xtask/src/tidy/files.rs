//! How files look: what a Rust file begins with, how long it may be, and words that mean that something is unfinished.

use std::path::Path;

/// Past this many lines a file is likely two things.
const MAX_LINES: usize = 600;

/// Files that may be longer, each with its reason.
const LONGER: [(&str, &str); 0] = [];

/// Words that mean that something is unfinished; they belong in an issue. In two parts, or this file would say them.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Whether the file at `path` is looked at.
pub(super) fn concerns(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("rs" | "go" | "sh" | "py" | "proto" | "toml" | "yaml" | "tpl" | "md"))
}

/// What is wrong with the file at `path`.
pub(super) fn check(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
        if let Some(word) = words.find(|word| UNFINISHED.contains(word)) {
            faults.push(format!("{path}:{}: {word}: finish it, or write an issue", i + 1));
        }
    }
    if !path.ends_with(".rs") {
        return faults;
    }
    if !text.starts_with("//!") {
        faults.push(format!("{path}: must begin with `//!`: what the file is for and what it must not know"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES && !LONGER.iter().any(|(longer, _)| *longer == path) {
        faults.push(format!("{path}: has {lines} lines, of at most {MAX_LINES}: which two things is it?"));
    }
    faults
}

/// Exceptions that nothing needs any more.
pub(super) fn stale_exceptions(root: &Path) -> Vec<String> {
    let stale = LONGER.iter().filter(|(path, _)| {
        std::fs::read_to_string(root.join(path)).map_or(true, |text| text.lines().count() <= MAX_LINES)
    });
    stale.map(|(path, reason)| format!("{path}: is an exception without need ({reason})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rust_file_begins_with_what_it_is_for() {
        assert_eq!(check("a.rs", "//! For this.\n"), [""; 0]);
        assert_eq!(
            check("a.rs", "use b;\n"),
            ["a.rs: must begin with `//!`: what the file is for and what it must not know"]
        );
        assert_eq!(check("a.go", "package a\n"), [""; 0]);
    }

    #[test]
    fn a_word_for_something_unfinished_is_a_fault_in_any_file() {
        for word in UNFINISHED {
            let expected = format!("a.sh:2: {word}: finish it, or write an issue");
            assert_eq!(check("a.sh", &format!("\n# {word}: later")), [expected]);
            assert_eq!(
                check("a.sh", &format!("mktemp {word}{word}")),
                [""; 0],
                "as part of another word it says nothing"
            );
        }
    }

    #[test]
    fn a_rust_file_past_the_most_lines_is_a_fault() {
        let text = |lines: usize| format!("//! For this.\n{}", "\n".repeat(lines - 1));
        assert_eq!(check("a.rs", &text(MAX_LINES)), [""; 0]);
        assert_eq!(
            check("a.rs", &text(MAX_LINES + 1)),
            ["a.rs: has 601 lines, of at most 600: which two things is it?"]
        );
    }
}
