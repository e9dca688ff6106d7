//! Where log lines go, and how they look.

use super::LogFormat;
use anyhow::{Context, anyhow};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Writes log lines that pass `filter` to standard output.
///
/// # Errors
///
/// The filter cannot be read, or logging was started before.
pub(super) fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let expected = "expected a level or filter directives, such as `info,conduit_operator=debug`";
    let filter = EnvFilter::builder().parse(filter).map_err(|error| anyhow!("--log-level: {expected}: {error}"))?;
    let (plain, json) = match format {
        LogFormat::Plain => (Some(fmt::layer().with_ansi(false)), None),
        LogFormat::Json => (None, Some(fmt::layer().json())),
    };
    tracing_subscriber::registry().with(filter).with(plain).with(json).try_init().context("logging was started before")
}
