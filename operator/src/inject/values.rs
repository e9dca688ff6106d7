//! The values that annotations may have: what each looks like, and its canonical form. Must not know which annotation has
//! which.

use ipnet::IpNet;
use std::{fmt, num::NonZeroU16, str::FromStr};
use tracing_subscriber::EnvFilter;

/// Ranges in one list at most; `conduit-init` takes no more.
const MAX_RANGES: usize = 128;

/// A duration such as `200ms` or `2m`, as the proxy reads it.
pub(super) fn duration(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "a duration: a whole number and one of ms, s, m and h, such as `120s`";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(EXPECTED),
    };
    let milliseconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    milliseconds.map(|_| text.to_owned()).ok_or(EXPECTED)
}

/// Ports and ranges of ports, such as `25,8000-8010`.
pub(super) fn ports(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str =
        "at most 128 ports and ranges of ports from 1 to 65535, separated by commas, such as `25,8000-8010`";
    list(text, port_range).ok_or(EXPECTED)
}

/// Subnets, such as `10.0.0.0/8,fd00::/8`.
pub(super) fn subnets(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "at most 128 subnets in CIDR notation, separated by commas, such as `10.0.0.0/8,fd00::/8`";
    list(text, |item| IpNet::from_str(item).ok().map(|net| net.to_string())).ok_or(EXPECTED)
}

/// A log level or filter directives.
pub(super) fn log_level(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "a log level or filter directives, such as `info` or `warn,conduit_proxy=debug`";
    if text.is_empty() || EnvFilter::builder().parse(text).is_err() {
        return Err(EXPECTED);
    }
    Ok(text.to_owned())
}

/// How log lines are written.
pub(super) fn log_format(text: &str) -> Result<String, &'static str> {
    match text {
        "plain" | "json" => Ok(text.to_owned()),
        _ => Err("`plain` or `json`"),
    }
}

/// Whether requests and connections are written about, and how.
pub(super) fn access_log(text: &str) -> Result<String, &'static str> {
    match text {
        "off" | "json" | "apache" => Ok(text.to_owned()),
        _ => Err("`off`, `json` or `apache`"),
    }
}

/// An amount of CPU or memory in Kubernetes' notation (`resource.Quantity`), which is not negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity(String);

impl Quantity {
    /// Reads a quantity.
    ///
    /// # Errors
    ///
    /// The text is no quantity, or a negative one; says what was expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "a Kubernetes quantity, such as `100m` of CPU or `64Mi` of memory";
        let value = value(text).ok_or(EXPECTED)?;
        if value.is_finite() { Ok(Self(text.to_owned())) } else { Err(EXPECTED) }
    }

    /// Whether this is more than `other`.
    pub(super) fn exceeds(&self, other: &Self) -> bool {
        // Both are quantities, so both have a value; f64 is exact for every amount that a container can ask for.
        value(&self.0) > value(&other.0)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number that a quantity is, in units; the grammar is that of `apimachinery/pkg/api/resource`.
fn value(text: &str) -> Option<f64> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, suffix) = text.split_at(digits);
    let scale = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 2f64.powi(10),
        "Mi" => 2f64.powi(20),
        "Gi" => 2f64.powi(30),
        "Ti" => 2f64.powi(40),
        "Pi" => 2f64.powi(50),
        "Ei" => 2f64.powi(60),
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    number.parse::<f64>().ok().map(|number| number * scale)
}

fn port_range(text: &str) -> Option<String> {
    let port = |text: &str| text.trim().parse::<NonZeroU16>().ok();
    match text.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            (first <= last).then(|| format!("{first}-{last}"))
        }
        None => port(text).map(|port| port.to_string()),
    }
}

/// The items in canonical form, joined by commas. An empty text is an empty list, which overrides one that is not.
fn list(text: &str, item: impl Fn(&str) -> Option<String>) -> Option<String> {
    if text.trim().is_empty() {
        return Some(String::new());
    }
    let items: Vec<_> = text.split(',').map(|part| item(part.trim())).collect::<Option<_>>()?;
    (items.len() <= MAX_RANGES).then(|| items.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_without_spaces() {
        assert_eq!(ports(" 25, 8000 - 8010 "), Ok("25,8000-8010".into()));
        assert_eq!(subnets("10.0.0.0/8, fd00::/8"), Ok("10.0.0.0/8,fd00::/8".into()));
        assert_eq!(ports(" "), Ok(String::new()));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["0", "65536", "9-8", "1,,2", "http", "-1", &vec!["1"; 129].join(",")] {
            assert!(ports(text).is_err(), "{text}");
        }
        for text in ["10.0.0.0", "10.0.0.0/33", "all"] {
            assert!(subnets(text).is_err(), "{text}");
        }
        for text in ["", "5", "1.5s", "s", "-1s", "1d", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "loud=very", "a=b=c"] {
            assert!(log_level(text).is_err(), "{text}");
        }
        for text in ["", "Mi", "1.2.3", "-5m", "5 m", "5x", "1e", "1e9999", "inf"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_of_different_notation_compare_by_amount() {
        let quantity = |text| Quantity::parse(text).unwrap();
        for (more, less) in [("1", "999m"), ("1Gi", "1000M"), ("2e3", "1.9k"), ("1", "0.1"), ("1Mi", "1048575")] {
            assert!(quantity(more).exceeds(&quantity(less)), "{more} > {less}");
            assert!(!quantity(less).exceeds(&quantity(more)), "{less} > {more}");
        }
        assert!(!quantity("1Ki").exceeds(&quantity("1024")));
    }
}
