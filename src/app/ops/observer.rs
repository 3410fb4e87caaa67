//! Looks at the worker from outside, for those who ask: the numbers of `/metrics`, the answer of `/readyz`, the page.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::adapters::local_queue::report::Tally;
use crate::app::ops::condition::Condition;
use crate::clock::Clock;
use crate::domain::{EventType, Lane, Timestamp};
use crate::pipeline::Context;
use crate::pipeline::gate::GateState;
use crate::pipeline::guards::halt::Notice;
use crate::pipeline::rate::rate_limiter::{Allowed, BulkHold};
use crate::telemetry::history::{History, Sample};
use crate::telemetry::status::{Ended, Latency, QueueShown, RateShown, Snapshot, Standing};
use crate::telemetry::{Depth, GateStateName, Rows};

/// What ends sooner isn't shown as holding bulk.
const A_MOMENT: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Observer<A> {
    context: Arc<Context<A>>,
    depth: watch::Receiver<Option<Depth>>,
    /// Whether the queue knows no rows, so that the deliveries of this worker are balanced instead.
    counts_deliveries: bool,
    /// Rows of a file that were over before this process began.
    before: Tally,
    started: Timestamp,
    seen: Mutex<Seen>,
}

struct Seen {
    /// State and reason, and when they were first seen.
    standing: (&'static str, Option<&'static str>, Timestamp),
    history: History,
}

impl<A: Send + Sync + 'static> Observer<A> {
    pub(crate) fn new(
        context: Arc<Context<A>>,
        depth: watch::Receiver<Option<Depth>>,
        counts_deliveries: bool,
        before: Tally,
    ) -> Self {
        let started = Clock::System.now();
        let seen = Seen { standing: ("starting", None, started), history: History::default() };
        Self { context, depth, counts_deliveries, before, started, seen: Mutex::new(seen) }
    }

    /// How it is, and since when.
    pub(crate) fn standing(&self) -> Standing {
        let Context { stop, metrics, gate, halt, rate_limiter, .. } = &*self.context;
        let delayed = self.depth.borrow().map_or(0, |depth| depth.delayed.iter().sum());
        let waiting = (metrics.waiting_for_jobs.get() == 1).then_some(delayed);
        let broker = metrics.facts.broker_trouble();
        let mix = || match &*halt.notices().borrow() {
            Some(Notice::Halted(mix)) => mix.to_string(),
            _ => String::new(),
        };
        let is_counted = rate_limiter.allowed() != Allowed::NotYet;
        let condition = Condition::of(stop.is_cancelled(), broker, gate.state(), is_counted, self.held(), waiting, mix);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, reason, _) = seen.standing;
        if (state, reason) != (condition.state(), condition.reason()) {
            seen.standing = (condition.state(), condition.reason(), Clock::System.now());
        }
        condition.standing(seen.standing.2, metrics.facts.key_source())
    }

    /// Whether bulk is held for more than a moment: requests on their way may fill a day and create nobody.
    fn held(&self) -> Option<BulkHold> {
        let now = self.context.clock.now();
        self.context.rate_limiter.held(now).filter(|held| held.until().since(now) > A_MOMENT)
    }

    /// What became of the rows, or of the deliveries; `None`: it isn't known at the moment.
    fn rows(&self) -> Option<Rows> {
        if self.counts_deliveries {
            return Some(self.context.metrics.deliveries());
        }
        self.depth.borrow().and_then(|depth| depth.rows)
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let Context { metrics, gate, rate_limiter, .. } = &*self.context;
        rate_limiter.show_now();
        metrics.observed.set_held(self.held().map(|held| held.code()));
        let (word, paused) = match gate.state() {
            GateState::Open => (GateStateName::Open, None),
            GateState::Throttled(_) => (GateStateName::Throttled, None),
            GateState::Paused(reason) => (GateStateName::Paused, Some(reason)),
            GateState::CircuitOpen => (GateStateName::CircuitOpen, None),
            GateState::Halted => (GateStateName::Halted, None),
        };
        metrics.observed.set_gate(word, paused);
        metrics.observed.set_depth(self.depth.borrow().as_ref(), self.rows());
        metrics.render()
    }

    /// Everything that the page shows. Keeps a sample for the chart.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let standing = self.standing();
        self.context.rate_limiter.show_now();
        let metrics = &self.context.metrics;
        let now = Sample {
            at: Clock::System.now(),
            ended: EventType::ALL.map(|event_type| metrics.completed(event_type)),
            requests: metrics.requests_sent(),
            creations: metrics.creations(),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.history.keep(&now);
        let history = &seen.history;
        let (jobs_per_second, used_per_second) = history.rates(&now);
        let quantile = |share| history.answered_within(&now, share);
        let ended = |event_type: EventType| now.ended[event_type as usize] + self.before.of(event_type);
        let in_flight = metrics.in_flight();
        let workers = u64::try_from(metrics.observed.rate_workers.get()).unwrap_or(0);
        // What ended before it came to a stand says nothing about when the rest will.
        let is_moving = standing.ready && standing.until.is_none();
        let depth = *self.depth.borrow();
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            at: now.at,
            started: self.started,
            standing,
            ended: Ended {
                created: ended(EventType::Created),
                existing: ended(EventType::Existing),
                rejected: ended(EventType::Rejected),
                failed: ended(EventType::Failed),
            },
            ended_before: self.before.total() - self.before.waiting,
            recovered: metrics.recovered(),
            in_flight,
            jobs_per_second,
            rate: RateShown {
                allowed_per_second: self.context.rate_limiter.allowed().shown(),
                used_per_second,
                workers,
            },
            latency: quantile(0.5).zip(quantile(0.99)).map(|(p50_s, p99_s)| Latency { p50_s, p99_s }),
            queue: depth.map(|depth| {
                let all_per_second = if is_moving { jobs_per_second * workers.max(1) as f64 } else { 0.0 };
                queue_shown(&depth, self.rows(), in_flight, all_per_second)
            }),
            errors: metrics.facts.errors(),
            minutes: history.minutes(&now),
        }
    }
}

fn queue_shown(depth: &Depth, rows: Option<Rows>, in_flight: u64, jobs_per_second: f64) -> QueueShown {
    let delayed = depth.delayed.iter().sum::<u64>();
    let in_flight = if depth.includes_in_hand { 0 } else { in_flight };
    let waiting = depth.ready.iter().sum::<u64>() + delayed + in_flight;
    let is_moving = jobs_per_second > 0.0 && waiting > 0;
    QueueShown {
        signup: depth.ready[Lane::Signup as usize],
        bulk: depth.ready[Lane::Bulk as usize],
        delayed,
        dead: depth.dead,
        unrouted: depth.unrouted,
        unaccounted: rows.map(|rows| rows.difference()),
        left_s: is_moving.then(|| (waiting as f64 / jobs_per_second).ceil() as u64),
    }
}
