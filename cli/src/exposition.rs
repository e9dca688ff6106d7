//! The text that proxies answer `/metrics` with, read strictly: a line that is not understood is an error.
//!
//! Prometheus' text format 0.0.4 and OpenMetrics 1.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>) as far as
//! samples go; types, units, timestamps and exemplars are passed over. Only what the tables need is kept, so that a
//! thousand pods fit into memory. It must not know what a metric means.

use std::collections::BTreeMap;

use thiserror::Error;

/// Label names and values, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels(Vec<(String, String)>);

/// One scrape: the value of every series of the wanted names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Exposition(BTreeMap<&'static str, BTreeMap<Labels, f64>>);

/// A line that is not as the formats say.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line} of the metrics: expected {expected}")]
pub(crate) struct Malformed {
    line: usize,
    expected: &'static str,
}

impl Labels {
    /// The value of a label, if the series has it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let index = self.0.binary_search_by(|(own, _)| own.as_str().cmp(name)).ok()?;
        Some(&self.0[index].1)
    }

    /// Whether the series has all of these.
    pub(crate) fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.get(name) == Some(value))
    }

    /// These labels but for one.
    pub(crate) fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(own, _)| own != name).cloned().collect())
    }
}

impl Exposition {
    /// Keeps the series whose names are `wanted`, and reads every line.
    ///
    /// # Errors
    /// The first line that is malformed, and what was expected there.
    pub(crate) fn parse(text: &str, wanted: &[&'static str]) -> Result<Self, Malformed> {
        let mut metrics = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, labels, value) = sample(line).map_err(|expected| Malformed { line: index + 1, expected })?;
            if let Some(name) = wanted.iter().find(|wanted| **wanted == name) {
                metrics.entry(*name).or_default().insert(labels, value);
            }
        }
        Ok(Self(metrics))
    }

    /// Every series of `name`.
    pub(crate) fn series(&self, name: &str) -> impl Iterator<Item = (&Labels, f64)> {
        self.0.get(name).into_iter().flatten().map(|(labels, value)| (labels, *value))
    }

    /// The value of one series.
    pub(crate) fn value(&self, name: &str, labels: &Labels) -> Option<f64> {
        self.0.get(name)?.get(labels).copied()
    }
}

/// A name, its labels, a value; then perhaps a timestamp and an exemplar.
fn sample(line: &str) -> Result<(&str, Labels, f64), &'static str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let end = line.find(|c| !is_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("the name of a metric");
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::default(), rest),
    };
    let rest = rest.strip_prefix(' ').ok_or("a space before the value")?;
    // "value [timestamp] [# exemplar]"
    let mut words = rest.split(" # ").next().unwrap_or_default().split_ascii_whitespace();
    let value = words.next().and_then(|word| word.parse().ok()).ok_or("a number as value")?;
    if words.next().is_some_and(|word| word.parse::<f64>().is_err()) || words.next().is_some() {
        return Err("a timestamp or nothing after the value");
    }
    Ok((name, labels, value))
}

/// `name="value",…}`, and what follows.
fn labels(mut rest: &str) -> Result<(Labels, &str), &'static str> {
    let mut labels = Vec::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            labels.sort_unstable();
            return Ok((Labels(labels), rest));
        }
        let (name, quoted) = rest.split_once("=\"").ok_or("a label as in name=\"value\"")?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err("the name of a label");
        }
        let (value, after) = unquoted(quoted)?;
        labels.push((name.to_owned(), value));
        rest = match after.strip_prefix(',') {
            Some(after) => after,
            None if after.starts_with('}') => after,
            None => return Err("a comma or a brace after a label"),
        };
    }
}

/// A label's value up to its closing quote, and what follows.
fn unquoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[index + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, escaped @ ('\\' | '"'))) => escaped,
                _ => return Err("\\\\, \\\" or \\n after a backslash"),
            }),
            other => value.push(other),
        }
    }
    Err("a quote at the end of a label's value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Exposition, Malformed> {
        Exposition::parse(text, &["m", "m_total"])
    }

    fn only(text: &str) -> (Labels, f64) {
        let parsed = parse(text).unwrap();
        let (labels, value) = parsed.series("m").next().unwrap();
        (labels.clone(), value)
    }

    #[test]
    fn a_sample_is_read_with_its_labels_in_any_order() {
        let (labels, value) = only("# TYPE m counter\nm{b=\"2\",a=\"1\"} 3.5\n# EOF\n");
        assert_eq!((labels.get("a"), labels.get("b"), labels.get("c"), value), (Some("1"), Some("2"), None, 3.5));
    }

    #[test]
    fn values_are_unescaped_and_may_hold_braces_and_commas() {
        let (labels, _) = only(r#"m{a="x\"y\\z\n}, {"} 1"#);
        assert_eq!(labels.get("a"), Some("x\"y\\z\n}, {"));
    }

    #[test]
    fn timestamps_and_exemplars_are_passed_over() {
        assert_eq!(only("m 1 1700000000.5").1, 1.0);
        assert_eq!(only("m{le=\"+Inf\"} 7 # {trace_id=\"x\"} 0.5 1700000000").1, 7.0);
        assert_eq!(only("m +Inf").1, f64::INFINITY);
        assert_eq!(only("m{} 2").1, 2.0);
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let parsed = parse("other 1\nm_total 2\n").unwrap();
        assert_eq!(parsed.value("m_total", &Labels::default()), Some(2.0));
        assert_eq!(parsed.series("other").count(), 0);
    }

    #[test]
    fn a_malformed_line_is_named_with_what_was_expected() {
        for (line, expected) in [
            ("{a=\"1\"} 1", "the name of a metric"),
            ("m", "a space before the value"),
            ("m x", "a number as value"),
            ("m 1 x", "a timestamp or nothing after the value"),
            ("m{a} 1", "a label as in name=\"value\""),
            ("m{a=\"1\" 1", "a comma or a brace after a label"),
            ("m{a=\"1} 1", "a quote at the end of a label's value"),
            ("m{a=\"\\t\"} 1", "\\\\, \\\" or \\n after a backslash"),
            ("<html>", "the name of a metric"),
        ] {
            assert_eq!(parse(&format!("m 1\n{line}\n")), Err(Malformed { line: 2, expected }), "{line}");
        }
    }
}
