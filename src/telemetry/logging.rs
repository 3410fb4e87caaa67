//! Where log lines go.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Starts logging to `writer`. `filter` has the syntax of `RUST_LOG`, which wins where it is set.
///
/// # Errors
/// A filter that can't be read, in words.
pub fn start<W>(format: LogFormat, filter: &str, writer: W) -> Result<(), String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let mut directives = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| filter.to_owned());
    if !directives.contains("lapin") {
        // It logs each failed attempt as an error, and `telemetry` tells the same once, in words.
        directives.push_str(",lapin=off");
    }
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        format!("the log filter {directives:?} can't be read: {error}; write for instance info or plu_onboard=debug")
    })?;
    // What can't be written is left out: telling so on standard error, the default, panics where that is the closed pipe.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    let result = match format {
        LogFormat::Text => {
            builder.with_target(false).with_ansi(std::io::IsTerminal::is_terminal(&io::stderr())).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    result.map_err(|error| format!("logging could not be started: {error}"))
}

/// Standard error, above a progress bar that is hidden while a line is written.
#[derive(Debug, Clone)]
pub struct AboveProgress(pub indicatif::ProgressBar);

impl<'w> MakeWriter<'w> for AboveProgress {
    type Writer = Self;

    fn make_writer(&'w self) -> Self::Writer {
        self.clone()
    }
}

impl Write for AboveProgress {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
