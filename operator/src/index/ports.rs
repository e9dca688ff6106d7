//! A set of ports as users write it in an annotation, such as `25,3306,8000-8010`.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

/// Annotation on a Namespace, Service or Pod: its ports whose bytes pass through unread.
pub const OPAQUE_PORTS_ANNOTATION: &str = "config.conduit.io/opaque-ports";

/// Some of the ports from 1 to 65,535.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<RangeInclusive<u16>>);

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
        Self(vec![1..=u16::MAX])
    }

    /// Whether `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }

    /// Every port of the set, as often as the text names it.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().cloned().flatten()
    }

    /// Reads the annotation [`OPAQUE_PORTS_ANNOTATION`].
    pub fn opaque(annotations: Option<&BTreeMap<String, String>>) -> AnnotatedPorts {
        let value = annotations?.get(OPAQUE_PORTS_ANNOTATION)?;
        Some(Self::parse(value).map_err(|why| format!("annotation {OPAQUE_PORTS_ANNOTATION} {why}").into()))
    }
}

fn range(item: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("must list ports from 1 to 65535 or ranges such as 8000-8010, has {item:?}");
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
    let (first, last) = match item.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(item)?, port(item)?),
    };
    if first > last {
        return Err(wrong());
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_are_read() {
        let ports = PortSet::parse(" 25, 8000-8002,").unwrap();
        assert_eq!(ports.iter().collect::<Vec<_>>(), [25, 8000, 8001, 8002]);
        assert!(ports.contains(8002) && !ports.contains(8003));
        assert_eq!(PortSet::parse("").unwrap(), PortSet::default());
        assert_eq!(PortSet::parse("65535").unwrap().iter().count(), 1);
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
