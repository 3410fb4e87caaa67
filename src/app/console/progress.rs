//! Progress on standard error: a bar on a terminal, a line every 10 s elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::adapters::local_queue::report::Tally;
use crate::domain::EventType;
use crate::domain::answer::KeySource;
use crate::pipeline::Context;
use crate::pipeline::gate::GateState;
use crate::pipeline::user_lookup::ScanProgress;
use crate::telemetry::logging::LogFormat;
use crate::telemetry::{HALT_CAUSE, Metrics, NOTICE_TARGET};

/// Time between two progress lines, where there is no terminal.
pub(crate) const LINE_EVERY: Duration = Duration::from_secs(10);

/// Time between two updates of the bar.
pub(crate) const DRAW_EVERY: Duration = Duration::from_millis(250);

/// A progress bar, and lines printed above it. Without a terminal the bar is hidden.
#[derive(Debug, Clone)]
pub(crate) struct ConsoleProgress {
    pub bar: ProgressBar,
    is_terminal: bool,
    /// Whether lines are written as log lines.
    is_json: bool,
}

impl ConsoleProgress {
    /// Shows nothing until [`Self::start`]. Where log lines are JSON, the others are too, and there is no bar.
    pub(crate) fn new(format: LogFormat) -> Self {
        let is_json = format == LogFormat::Json;
        let is_terminal = !is_json && std::io::stderr().is_terminal();
        Self { bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()), is_terminal, is_json }
    }

    /// Shows the bar with a length, exact or estimated, and a style.
    pub(crate) fn start(&self, length: u64, style: &str) {
        self.bar.reset();
        self.bar.set_length(length);
        // A template that can't be parsed leaves the default style; a test parses all of them.
        if let Ok(style) = ProgressStyle::with_template(style) {
            self.bar.set_style(style.progress_chars("━╸─"));
        }
        if self.is_terminal {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Whether standard error is a terminal, so that a bar is drawn.
    pub(crate) const fn is_on_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
        // Or the next line printed above it would draw it again.
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Prints a line above the bar.
    pub(crate) fn print_line(&self, line: &str) {
        if self.is_json {
            tracing::info!(target: NOTICE_TARGET, "{line}");
            return;
        }
        // A closed terminal must not end the work.
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{line}");
        });
    }
}

/// Bar while a file is read.
pub(crate) const READ_STYLE: &str = "{bar:20.cyan/dim} {human_pos} of about {human_len} rows read";
/// Bar of an import onto RabbitMQ.
pub(crate) const PRODUCE_STYLE: &str =
    "{bar:20.cyan/dim} {human_pos} of about {human_len} rows on the queue and confirmed";
/// Bar while users are created.
pub(crate) const WORK_STYLE: &str = "{bar:20.cyan/dim} {human_pos} of {human_len}  {msg}";

/// The progress of the work on a file.
#[derive(Debug)]
pub(crate) struct WorkProgress {
    pub display: ConsoleProgress,
    /// Outcomes of the file at the start of this process.
    pub before: Tally,
    /// Counts the outcomes since.
    pub metrics: Metrics,
    pub began: Instant,
}

impl WorkProgress {
    /// Outcomes of the file now.
    fn now(&self) -> Tally {
        let mut tally = self.before;
        for event_type in EventType::ALL {
            let done = self.metrics.completed(event_type);
            tally.add(Some(event_type), done);
            tally.waiting = tally.waiting.saturating_sub(done);
        }
        tally
    }

    /// Shows the progress until the future is dropped.
    pub(crate) async fn show<A>(self, context: Arc<Context<A>>) {
        self.display.start(self.before.total(), WORK_STYLE);
        let every = if self.display.is_terminal { DRAW_EVERY } else { LINE_EVERY };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut recent = RecentRate::default();
        loop {
            ticks.tick().await;
            let tally = self.now();
            let done = tally.total() - tally.waiting;
            let held = context.rate_limiter.bulk_hold(context.clock.now()).map(|held| held.to_string());
            let key = context.metrics.health.key_source();
            // Why an open gate may be slow.
            let scan = || {
                let ScanProgress { read, total } = context.look_up.scan_progress()?;
                Some(format!("looking users up: {read} of {total} users of the list read"))
            };
            let losing = context.gate.links_being_lost();
            let losing =
                losing.map(|losses| format!("links are being lost: {losses} creations in a row had no answer"));
            let slow_because = losing.or(held).or_else(scan);
            let rate = recent.rate(self.began.elapsed(), done);
            let line = progress_line(&tally, rate, context.gate.state(), key, slow_because);
            self.display.bar.set_position(done);
            self.display.bar.set_message(line.clone());
            if !self.display.is_terminal {
                self.display.print_line(&format!("{done} of {} done: {line}", tally.total()));
            }
        }
    }
}

/// The rate over the last [`RATE_OVER`], so that a pause shows and the time before doesn't count.
#[derive(Debug, Default)]
struct RecentRate {
    samples: std::collections::VecDeque<(Duration, u64)>,
}

/// Time over which the rate is measured.
const RATE_OVER: Duration = Duration::from_secs(30);

impl RecentRate {
    fn rate(&mut self, at: Duration, done: u64) -> f64 {
        self.samples.push_back((at, done));
        while self.samples.len() > 2 && at - self.samples[1].0 >= RATE_OVER {
            self.samples.pop_front();
        }
        let (first_at, first_done) = self.samples[0];
        let seconds = (at - first_at).as_secs_f64();
        if seconds > 0.0 { (done - first_done) as f64 / seconds } else { 0.0 }
    }
}

fn progress_line(tally: &Tally, rate: f64, gate: GateState, key: KeySource, slow_because: Option<String>) -> String {
    let counts = counts_text(tally);
    let state = match gate {
        GateState::Paused(reason) => {
            return format!("{counts} · PAUSED: {}", reason.advice(key));
        }
        GateState::CircuitOpen => {
            return format!(
                "{counts} · CIRCUIT OPEN: the API is down or slow; it is asked again and again, and no row fails meanwhile"
            );
        }
        GateState::Halted => {
            return format!("{counts} · HALTED: {HALT_CAUSE}");
        }
        GateState::Throttled(until) => {
            let wait = until.saturating_duration_since(Instant::now()).as_secs_f64();
            format!(" · throttled: the API asks to wait {wait:.0} s")
        }
        GateState::Open => slow_because.map_or_else(String::new, |why| format!(" · {why}")),
    };
    let left = if rate > 0.0 {
        let seconds = (tally.waiting as f64 / rate).round().min(1e9);
        format!(" · {} left", HumanDuration(Duration::from_secs_f64(seconds)))
    } else {
        String::new()
    };
    format!("{counts} · {rate:.1}/s{left}{state}")
}

/// The counts by outcome: "12 created, 3 existing".
pub(crate) fn counts_text(tally: &Tally) -> String {
    let mut parts = vec![format!("{} created", tally.created)];
    for event_type in [EventType::Existing, EventType::Rejected, EventType::Failed] {
        if tally.of(event_type) > 0 {
            parts.push(format!("{} {}", tally.of(event_type), event_type.short()));
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_all_bars_can_be_parsed() {
        for style in [READ_STYLE, PRODUCE_STYLE, WORK_STYLE] {
            ProgressStyle::with_template(style).unwrap();
        }
    }

    #[test]
    fn a_closed_gate_is_shown_instead_of_why_the_work_is_slow() {
        let tally = Tally { created: 3, waiting: 7, ..Tally::default() };
        let line = |gate, slow_because| progress_line(&tally, 0.0, gate, KeySource::File, slow_because);
        let slow = || Some("bulk is held until 20:00".to_owned());
        assert_eq!(line(GateState::Open, None), "3 created · 0.0/s");
        assert_eq!(line(GateState::Open, slow()), "3 created · 0.0/s · bulk is held until 20:00");
        let circuit_open = line(GateState::CircuitOpen, slow());
        assert!(circuit_open.starts_with("3 created · CIRCUIT OPEN: the API is down or slow"), "{circuit_open}");
    }

    #[test]
    fn the_rate_covers_the_last_30_seconds() {
        let mut recent = RecentRate::default();
        let mut rate = 0.0;
        for second in 0..=60 {
            rate = recent.rate(Duration::from_secs(second), second * 10);
        }
        assert!((rate - 10.0).abs() < 0.01, "{rate}");
        for second in 61..=120 {
            rate = recent.rate(Duration::from_secs(second), 600);
        }
        assert!(rate.abs() < 0.01, "{rate}");
    }
}
