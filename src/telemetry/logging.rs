//! Logging: formats, filter, and the thread that writes to standard error.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to `writer`. `filter` has the syntax of the variable `RUST_LOG`, which wins if it is set.
///
/// # Errors
/// A text that says why the filter is not valid.
pub(crate) fn start<W>(format: LogFormat, filter: &str, writer: W) -> Result<(), String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let mut directives = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| filter.to_owned());
    if !directives.contains("lapin") {
        // It logs each failed attempt to connect as an error. Our own line says it once.
        directives.push_str(",lapin=off");
    }
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        format!("the log filter {directives:?} can't be read: {error}; use for example info or plu_onboard=debug")
    })?;
    let subscriber = tracing_subscriber::registry().with(filter).with(filter_fn(is_free_of_payloads));
    // A line that can't be written is left out. By default the layer reports that on standard error, and panics if that
    // is the closed pipe.
    let lines = fmt::layer().with_writer(writer).log_internal_errors(false);
    let result = match format {
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&io::stderr());
            subscriber.with(lines.with_target(false).with_ansi(is_terminal)).try_init()
        }
        LogFormat::Json => subscriber.with(lines.json().flatten_event(true).with_current_span(false)).try_init(),
    };
    result.map_err(|error| format!("logging could not be started: {error}"))
}

/// Whether a line may be written, whatever the filter says. Below `warn`, lapin logs whole frames, which hold the
/// password and the jobs.
fn is_free_of_payloads(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::WARN || !line.target().starts_with("lapin")
}

/// Most lines that wait to be written: one to two megabytes.
const LINES_WAITING_MAX: usize = 4_096;

/// Pause after each write. Lines gather meanwhile: a busy worker makes 50 system calls a second instead of one a job.
const GATHERED_FOR: Duration = Duration::from_millis(20);

/// A writer to standard error with a thread of its own, so that a pipe that isn't read never blocks the work.
///
/// A line that finds 4,096 lines waiting is left out, and a later line gives the number of lines left out. Dropping the
/// guard writes the waiting lines, for at most one second.
pub(crate) fn stderr_writer() -> (NonBlocking, WorkerGuard) {
    let counter = Arc::default();
    let gathering = GatheringWriter { lines: Vec::new(), lost: 0, counter: Arc::clone(&counter) };
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_WAITING_MAX).thread_name("log");
    let (writer, guard) = builder.finish(gathering);
    let _ = counter.set(writer.error_counter());
    (writer, guard)
}

/// Gathers lines on the log thread and writes them with one system call.
struct GatheringWriter {
    lines: Vec<u8>,
    /// Lines left out, as far as a log line reported them.
    lost: usize,
    counter: Arc<OnceLock<ErrorCounter>>,
}

impl Write for GatheringWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // There is no place to report a failure to.
        let _ = io::stderr().write_all(&self.lines);
        self.lines.clear();
        let lost = self.counter.get().map_or(0, ErrorCounter::dropped_lines);
        let lines = lost - std::mem::replace(&mut self.lost, lost);
        if lines > 0 {
            tracing::warn!(lines, "log lines left out: standard error isn't read fast enough");
        }
        std::thread::park_timeout(GATHERED_FOR);
        Ok(())
    }
}

/// A writer to standard error that hides the progress bar while it writes.
#[derive(Debug, Clone)]
pub(crate) struct AboveProgress(pub indicatif::ProgressBar);

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
