//! A set of ports as users write it in an annotation, such as `25,3306,8000-8010`.

use conduit_model::PortRange;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Annotation on a Namespace, Service or Pod: its ports whose bytes pass through unread.
pub const OPAQUE_PORTS_ANNOTATION: &str = "config.conduit.io/opaque-ports";

/// Some of the ports from 1 to 65,535.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<PortRange>);

/// The ports that an object's annotation lists: none where it has no such annotation, an error in words where its
/// value cannot be read.
pub type AnnotatedPorts = Option<Result<PortSet, Arc<str>>>;

impl PortSet {
    /// Reads ports and ranges of ports, separated by commas; an empty text is an empty set. The error says what was
    /// expected and what was found.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(range).collect::<Result<_, _>>().map(Self)
    }

    /// Every port.
    pub fn all() -> Self {
        Self(PortRange::new(1, u16::MAX).into_iter().collect())
    }

    /// Whether `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(port))
    }

    /// The ports of the set that are none of `others`, in their order and in rows that are as long as can be.
    pub fn without(&self, others: &BTreeSet<u16>) -> Vec<PortRange> {
        let mut listed = self.0.clone();
        listed.sort();
        let mut rows = Vec::new();
        // Of the numbers up to 65,535, the lowest that is not dealt with.
        let mut next = 1_u32;
        for range in listed {
            next = next.max(range.first().into());
            for other in others.range(range.first()..=range.last()).copied().map(u32::from) {
                rows.extend(row(next, other - 1));
                next = next.max(other + 1);
            }
            rows.extend(row(next, range.last().into()));
            next = next.max(u32::from(range.last()) + 1);
        }
        rows
    }

    /// Reads the annotation [`OPAQUE_PORTS_ANNOTATION`].
    pub fn opaque(annotations: Option<&BTreeMap<String, String>>) -> AnnotatedPorts {
        let value = annotations?.get(OPAQUE_PORTS_ANNOTATION)?;
        Some(Self::parse(value).map_err(|why| format!("annotation {OPAQUE_PORTS_ANNOTATION} {why}").into()))
    }
}

/// The ports from `first` to `last`, if there are any.
fn row(first: u32, last: u32) -> Option<PortRange> {
    PortRange::new(first.try_into().ok()?, last.try_into().ok()?)
}

fn range(item: &str) -> Result<PortRange, String> {
    let wrong = || format!("must list ports from 1 to 65535 or ranges such as 8000-8010, has {item:?}");
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
    let (first, last) = match item.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(item)?, port(item)?),
    };
    PortRange::new(first, last).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_are_read() {
        let ports = PortSet::parse(" 25, 8000-8002,").unwrap();
        assert_eq!(rows(&ports, &[]), ["25", "8000-8002"]);
        assert!(ports.contains(8002) && !ports.contains(8003));
        assert_eq!(PortSet::parse("").unwrap(), PortSet::default());
        assert_eq!(rows(&PortSet::parse("65535").unwrap(), &[]), ["65535"]);
    }

    fn rows(ports: &PortSet, others: &[u16]) -> Vec<String> {
        ports.without(&others.iter().copied().collect()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ports_are_as_few_rows_as_leave_the_others_out() {
        for (text, others, expected) in [
            ("1-65535", &[][..], &["1-65535"][..]),
            ("1-65535", &[1, 80, 81, 65_535], &["2-79", "82-65534"]),
            ("80", &[80], &[]),
            ("80", &[79, 81], &["80"]),
            ("8000-8010,90,8005-8020,8002", &[8015], &["90", "8000-8010", "8011-8014", "8016-8020"]),
            ("10-20,10-20,12", &[15], &["10-14", "16-20"]),
        ] {
            assert_eq!(rows(&PortSet::parse(text).unwrap(), others), expected, "{text} without {others:?}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused_in_words() {
        for text in ["0", "x", "1-", "9-8", "65536", "1 2"] {
            let error = PortSet::parse(text).unwrap_err();
            assert_eq!(
                error,
                format!("must list ports from 1 to 65535 or ranges such as 8000-8010, has {text:?}"),
                "{text}"
            );
        }
    }
}
