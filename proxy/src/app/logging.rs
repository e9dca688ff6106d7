//! Log lines: one to standard error per event, plain or JSON, with a filter that can be replaced while the proxy runs.

use super::settings::{LogFormat, LogSettings};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Reads and replaces the filter of a running proxy.
#[derive(Clone, Debug)]
pub(super) struct LogControl(reload::Handle<EnvFilter, Registry>);

/// Why logging cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// The directives cannot be read.
    #[error("expected {expected}: {error}", expected = conduit_model::settings::LOG.expects)]
    Directives {
        /// What is wrong with them.
        error: tracing_subscriber::filter::ParseError,
    },
    /// Something else of this process logs already, or has ended.
    #[error("logging cannot be changed: {0}")]
    Unavailable(String),
}

/// Sends the events of the whole process to standard error.
///
/// # Errors
/// The directives cannot be read, or something else of this process logs already.
pub(super) fn start(settings: &LogSettings) -> Result<LogControl, LogError> {
    let (filter, handle) = reload::Layer::new(parse(&settings.directives)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.format {
        LogFormat::Plain => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    started.map_err(|e| LogError::Unavailable(e.to_string()))?;
    Ok(LogControl(handle))
}

impl LogControl {
    /// The directives in force.
    ///
    /// # Errors
    /// Logging has ended.
    pub(super) fn directives(&self) -> Result<String, LogError> {
        self.0.with_current(ToString::to_string).map_err(|e| LogError::Unavailable(e.to_string()))
    }

    /// Puts other directives in force.
    ///
    /// # Errors
    /// They cannot be read; those that were in force stay. Or logging has ended.
    pub(super) fn replace(&self, directives: &str) -> Result<(), LogError> {
        self.0.reload(parse(directives)?).map_err(|e| LogError::Unavailable(e.to_string()))
    }

    /// A control over nothing else, for tests.
    #[cfg(test)]
    pub(super) fn detached(directives: &str) -> (Self, reload::Layer<EnvFilter, Registry>) {
        let (layer, handle) = reload::Layer::new(parse(directives).unwrap());
        (Self(handle), layer)
    }
}

fn parse(directives: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(directives).map_err(|error| LogError::Directives { error })
}
