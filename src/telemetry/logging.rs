//! Where log lines go.

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
    let subscriber = tracing_subscriber::registry().with(filter).with(filter_fn(is_discreet));
    // What can't be written is left out: telling so on standard error, the default, panics where that is the closed pipe.
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

/// Whether a line may be written, whatever the filter says: below a warning, lapin writes down whole frames, with the
/// password and the jobs in them.
fn is_discreet(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::WARN || !line.target().starts_with("lapin")
}

/// Lines that wait to be written, at most: a megabyte or two.
const LINES_WAITING_MAX: usize = 4_096;

/// Pause after each write. Lines gather meanwhile, and a busy worker makes fifty system calls a second for them instead of
/// one a job.
const GATHERED_FOR: Duration = Duration::from_millis(20);

/// Standard error by way of a thread of its own: a pipe that nobody reads can't hold up whoever logs. Lines that find
/// 4,096 before them are left out, and a later line says how many. What is still waiting is written when
/// the guard is dropped, within a second.
pub fn aside() -> (NonBlocking, WorkerGuard) {
    let counter = Arc::default();
    let gathering = Gathering { lines: Vec::new(), lost: 0, counter: Arc::clone(&counter) };
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_WAITING_MAX).thread_name("log");
    let (writer, guard) = builder.finish(gathering);
    let _ = counter.set(writer.error_counter());
    (writer, guard)
}

/// What the thread does with the lines.
struct Gathering {
    lines: Vec<u8>,
    /// Lines that were left out, as far as was told.
    lost: usize,
    counter: Arc<OnceLock<ErrorCounter>>,
}

impl Write for Gathering {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Nobody could be told of a failure.
        let _ = io::stderr().write_all(&self.lines);
        self.lines.clear();
        let lost = self.counter.get().map_or(0, ErrorCounter::dropped_lines);
        let lines = lost - std::mem::replace(&mut self.lost, lost);
        if lines > 0 {
            tracing::warn!(lines, "log lines were left out: standard error isn't read fast enough");
        }
        std::thread::park_timeout(GATHERED_FOR);
        Ok(())
    }
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
