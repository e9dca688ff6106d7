//! A line-by-line difference, for people to see what `generate` would change.

use std::fmt::Write;

/// The lines from the first to the last that differ, old ones after `-`, new ones after `+`.
pub(super) fn lines(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let after = old[before..].iter().rev().zip(new[before..].iter().rev()).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    for (sign, lines) in [('-', &old), ('+', &new)] {
        for line in &lines[before..lines.len() - after] {
            writeln!(text, "{sign}{line}").expect("a String takes all that is written");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        assert_eq!(lines("a\nb\nc", "a\nx\ny\nc"), "-b\n+x\n+y\n");
        assert_eq!(lines("", "a"), "+a\n");
        assert_eq!(lines("a\na", "a"), "-a\n");
    }
}
