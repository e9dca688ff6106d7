//! The scalars of a ServiceProfile that are written as text.

use conduit_crds::{
    scalar::Weight,
    service_profile::{MAX_AUTHORITY, MAX_DURATION},
};
use std::{ops::RangeInclusive, time::Duration};

/// The units of Go's durations, in nanoseconds. Of two that begin alike the longer comes first.
const UNITS: [(&str, f64); 7] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// A timeout, longer than zero.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("must be longer than 0s, was {text:?}")),
        timeout => Ok(timeout),
    }
}

/// The `ttl` of a retry budget, within the bounds that proxies take.
pub(super) fn budget_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    match (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&ttl) {
        true => Ok(ttl),
        false => Err(format!("must be a duration from 1s to 60s, was {text:?}")),
    }
}

/// A duration as Go's `time.ParseDuration` reads it, but for signs.
fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("must be a duration such as `300ms` or `1m30s`, was {text:?}");
    if text.is_empty() || text.len() > MAX_DURATION {
        return Err(expected());
    }
    let mut nanoseconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(expected)?;
        let (number, unit) = rest.split_at(end);
        if number.starts_with('.') || number.ends_with('.') {
            return Err(expected());
        }
        let number: f64 = number.parse().map_err(|_| expected())?;
        let (name, size) = UNITS.iter().find(|(name, _)| unit.starts_with(name)).ok_or_else(expected)?;
        nanoseconds += number * size;
        rest = &unit[name.len()..];
    }
    Duration::try_from_secs_f64(nanoseconds / 1e9).map_err(|_| expected())
}

/// `host` or `host:port`.
pub(super) fn authority(text: &str) -> Result<(), String> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let valid =
        text.len() <= MAX_AUTHORITY && host.split('.').all(label) && port.is_none_or(|port| self::port(port).is_some());
    match valid {
        true => Ok(()),
        false => Err(format!("must be `host` or `host:port`, was {text:?}")),
    }
}

/// A share of traffic.
pub(super) fn weight(weight: &Weight) -> Result<(), String> {
    let Weight::Quantity(text) = weight else { return Ok(()) };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let valid = match (text.strip_suffix('m'), text.split_once('.')) {
        (Some(milli), _) => digits(milli),
        (None, Some((whole, fraction))) => digits(whole) && digits(fraction) && fraction.len() <= 3,
        (None, None) => digits(text),
    };
    match valid && text.len() <= Weight::MAX_LENGTH {
        true => Ok(()),
        false => Err(format!("must be a number or a quantity such as `500m`, was {text:?}")),
    }
}

/// A port, or a range of ports such as `4000-4010`.
pub(super) fn port_or_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = match text.split_once('-') {
        Some((first, last)) => port(first).zip(port(last)),
        None => port(text).map(|port| (port, port)),
    };
    match range {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err(format!("must be a port or a range of ports such as `4000-4010`, was {text:?}")),
    }
}

/// A port from 1 to 65535.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_as_go_reads_it() {
        for (text, expected) in [
            ("300ms", Some(Duration::from_millis(300))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("1h2m3s", Some(Duration::from_secs(3723))),
            ("20us", Some(Duration::from_micros(20))),
            ("20µs", Some(Duration::from_micros(20))),
            ("5ns", Some(Duration::from_nanos(5))),
            ("", None),
            ("5", None),
            ("-5s", None),
            ("5 s", None),
            ("1.s", None),
            (".5s", None),
            ("1..5s", None),
            ("5d", None),
        ] {
            assert_eq!(duration(text).ok(), expected, "{text:?}");
        }
        assert_eq!(timeout("0s").unwrap_err(), "must be longer than 0s, was \"0s\"");
    }

    #[test]
    fn ports_authorities_and_weights_are_taken_or_refused() {
        for (text, taken) in
            [("80", true), ("1-65535", true), ("0", false), ("65536", false), ("9-8", false), ("+1", false)]
        {
            assert_eq!(port_or_range(text).is_ok(), taken, "{text:?}");
        }
        for (text, taken) in [
            ("web", true),
            ("web.shop.svc.cluster.local.:80", true),
            ("web:0", false),
            (":80", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(authority(text).is_ok(), taken, "{text:?}");
        }
        for (text, taken) in
            [("500m", true), ("0.5", true), ("2", true), ("m", false), ("1.", false), ("-1", false), ("1Ki", false)]
        {
            assert_eq!(weight(&Weight::Quantity(text.into())).is_ok(), taken, "{text:?}");
        }
    }
}
