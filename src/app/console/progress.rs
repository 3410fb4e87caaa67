//! What a person sees while the work goes on: a bar on a terminal, a plain line now and then elsewhere.

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
use crate::telemetry::{Metrics, NEWS_TARGET};

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Between two updates of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// The bar of a terminal, or plain lines.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    /// Hidden where there is no terminal.
    pub bar: ProgressBar,
    is_terminal: bool,
    /// Lines are log lines.
    is_json: bool,
}

impl Progress {
    /// Nothing is shown before the first phase. Where log lines are for machines, the others are as well, and there is no bar.
    pub(crate) fn new(format: LogFormat) -> Self {
        let is_json = format == LogFormat::Json;
        let is_terminal = !is_json && std::io::stderr().is_terminal();
        Self { bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()), is_terminal, is_json }
    }

    /// Begins a phase of known length, or of about that.
    pub(crate) fn start(&self, length: u64, style: &str) {
        self.bar.reset();
        self.bar.set_length(length);
        // A template that can't be parsed shows the default style; the tests parse both.
        if let Ok(style) = ProgressStyle::with_template(style) {
            self.bar.set_style(style.progress_chars("━╸─"));
        }
        if self.is_terminal {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Whether there is a terminal to draw a bar on.
    pub(crate) const fn is_on_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
        // Or the next line above it would bring it back.
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// One line for people, above the bar.
    pub(crate) fn say(&self, line: &str) {
        if self.is_json {
            tracing::info!(target: NEWS_TARGET, "{line}");
            return;
        }
        // A terminal that is gone must not end the work.
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{line}");
        });
    }
}

/// The bar of the reading.
pub(crate) const READ_STYLE: &str = "{bar:20.cyan/dim} {human_pos} of about {human_len} rows read";
/// The bar of the import into a broker's queue.
pub(crate) const PRODUCE_STYLE: &str =
    "{bar:20.cyan/dim} {human_pos} of about {human_len} rows on the queue and confirmed";
/// The bar of the work.
pub(crate) const WORK_STYLE: &str = "{bar:20.cyan/dim} {human_pos} of {human_len}  {msg}";

/// What the work on a file looks like from outside.
#[derive(Debug)]
pub(crate) struct WorkProgress {
    /// Where it is shown.
    pub progress: Progress,
    /// What was over when this process began.
    pub before: Tally,
    /// What has been done since.
    pub metrics: Metrics,
    /// When this process began.
    pub began: Instant,
}

impl WorkProgress {
    /// What is over now.
    fn now(&self) -> Tally {
        let mut tally = self.before;
        for event_type in EventType::ALL {
            let done = self.metrics.completed(event_type);
            tally.add(Some(event_type), done);
            tally.waiting = tally.waiting.saturating_sub(done);
        }
        tally
    }

    /// Shows the progress until it is dropped.
    pub(crate) async fn show<A>(self, context: Arc<Context<A>>) {
        self.progress.start(self.before.total(), WORK_STYLE);
        let every = if self.progress.is_terminal { DRAW_EVERY } else { LINE_EVERY };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut recent = Recent::default();
        loop {
            ticks.tick().await;
            let tally = self.now();
            let done = tally.total() - tally.waiting;
            let held = context.rate_limiter.held(context.clock.now()).map(|held| held.to_string());
            let key = context.metrics.facts.key_source();
            // Why an open gate is slow.
            let reading = || {
                let ScanProgress { read, total } = context.look_up.reading()?;
                Some(format!("looking users up: {read} of {total} in the list are read"))
            };
            let why =
                held.or_else(|| context.retry_budget.holds_back().then(|| RETRIES_WAIT.to_owned())).or_else(reading);
            let line = line(&tally, recent.rate(self.began.elapsed(), done), context.gate.state(), key, why);
            self.progress.bar.set_position(done);
            self.progress.bar.set_message(line.clone());
            if !self.progress.is_terminal {
                self.progress.say(&format!("{done} of {} done: {line}", tally.total()));
            }
        }
    }
}

/// The rate over the last while, so that a pause shows and an old start doesn't weigh.
#[derive(Debug, Default)]
struct Recent {
    samples: std::collections::VecDeque<(Duration, u64)>,
}

/// How far back the rate looks.
const RATE_OVER: Duration = Duration::from_secs(30);

impl Recent {
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

/// Told where the retry budget is used up.
const RETRIES_WAIT: &str = "many answers get lost: repetitions wait, so that the API isn't given more work ([retry])";

fn line(tally: &Tally, rate: f64, gate: GateState, key: KeySource, why: Option<String>) -> String {
    let counts = counts(tally);
    let state = match gate {
        GateState::Paused(reason) => {
            return format!("{counts} · PAUSED: {}", reason.advice(key));
        }
        GateState::CircuitOpen => {
            return format!(
                "{counts} · WAITING: the API is down or slow; it is tried now and then, and no row is given up"
            );
        }
        GateState::Halted => return format!("{counts} · HALTED: the outcomes are not what was planned"),
        GateState::Throttled(until) => {
            let wait = until.saturating_duration_since(Instant::now()).as_secs_f64();
            format!(" · the API asks to wait {wait:.0} s")
        }
        GateState::Open => why.map_or_else(String::new, |why| format!(" · {why}")),
    };
    let left = if rate > 0.0 {
        let seconds = (tally.waiting as f64 / rate).round().min(1e9);
        format!(" · {} left", HumanDuration(Duration::from_secs_f64(seconds)))
    } else {
        String::new()
    };
    format!("{counts} · {rate:.1}/s{left}{state}")
}

/// The counts by outcome, in words.
pub(crate) fn counts(tally: &Tally) -> String {
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
    fn the_templates_of_the_bars_parse() {
        for style in [READ_STYLE, PRODUCE_STYLE, WORK_STYLE] {
            ProgressStyle::with_template(style).unwrap();
        }
    }

    #[test]
    fn the_line_says_why_it_is_slow_and_a_closed_gate_goes_first() {
        let tally = Tally { created: 3, waiting: 7, ..Tally::default() };
        let slow = || Some(RETRIES_WAIT.to_owned());
        assert_eq!(line(&tally, 0.0, GateState::Open, KeySource::File, None), "3 created · 0.0/s");
        assert!(line(&tally, 0.0, GateState::Open, KeySource::File, slow()).ends_with(
            "0.0/s · many answers get lost: repetitions wait, so that the API isn't given more work ([retry])"
        ));
        assert!(
            line(&tally, 0.0, GateState::CircuitOpen, KeySource::File, slow())
                .starts_with("3 created · WAITING: the API is down or slow")
        );
    }

    #[test]
    fn the_rate_is_that_of_the_last_while() {
        let mut recent = Recent::default();
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
