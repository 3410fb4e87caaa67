//! Reads the state of the pipeline for `/metrics`, `/readyz` and the status page.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::adapters::local_queue::report::Tally;
use crate::app::ops::worker_state::{WorkerState, links_being_lost};
use crate::clock::Clock;
use crate::domain::{EventType, Lane, Timestamp};
use crate::pipeline::Context;
use crate::pipeline::gate::GateState;
use crate::pipeline::guards::halt::HaltNotice;
use crate::pipeline::rate::rate_limiter::{BulkHold, EffectiveRate};
use crate::telemetry::history::{StatusHistory, StatusSample};
use crate::telemetry::status::{ApiLatency, OutcomeTotals, QueueStatus, RateStatus, StatusSnapshot, WorkerStatus};
use crate::telemetry::{GateStateName, QueueDepth, RowCounts};

/// A hold of bulk that ends sooner isn't shown.
const HOLD_SHOWN_MIN: Duration = Duration::from_secs(10);

pub(super) struct Observer<A> {
    context: Arc<Context<A>>,
    depth: watch::Receiver<Option<QueueDepth>>,
    /// Whether the balance is that of this worker's deliveries, because RabbitMQ knows no rows.
    counts_deliveries: bool,
    /// Outcomes of the file at the start of this process.
    before: Tally,
    started: Timestamp,
    inner: Mutex<ObserverInner>,
}

struct ObserverInner {
    /// State and reason, and since when.
    state: (&'static str, Option<&'static str>, Timestamp),
    history: StatusHistory,
}

impl<A: Send + Sync + 'static> Observer<A> {
    pub(crate) fn new(
        context: Arc<Context<A>>,
        depth: watch::Receiver<Option<QueueDepth>>,
        counts_deliveries: bool,
        before: Tally,
    ) -> Self {
        let started = Clock::System.now();
        let inner = ObserverInner { state: ("starting", None, started), history: StatusHistory::default() };
        Self { context, depth, counts_deliveries, before, started, inner: Mutex::new(inner) }
    }

    /// The state of the worker, and since when.
    pub(crate) fn status(&self) -> WorkerStatus {
        let Context { stop, metrics, gate, halt, rate_limiter, .. } = &*self.context;
        let delayed = self.depth.borrow().map_or(0, |depth| depth.delayed.iter().sum());
        let waiting = (metrics.waiting_for_jobs.get() == 1).then_some(delayed);
        let broker = metrics.health.queue_trouble();
        let mix = || match &*halt.notices().borrow() {
            Some(HaltNotice::Halted(mix)) => mix.to_string(),
            _ => String::new(),
        };
        let is_counted = rate_limiter.effective_rate() != EffectiveRate::Unknown;
        let worker_state =
            WorkerState::of(stop.is_cancelled(), broker, gate.state(), is_counted, self.held(), waiting, mix);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, reason, _) = inner.state;
        if (state, reason) != (worker_state.state(), worker_state.reason()) {
            inner.state = (worker_state.state(), worker_state.reason(), Clock::System.now());
        }
        let warning = gate.links_being_lost().map(links_being_lost);
        WorkerStatus { warning, ..worker_state.status(inner.state.2, metrics.health.key_source()) }
    }

    /// A hold of bulk that lasts. Requests in flight count towards the daily quota until their outcome is known, so
    /// that it may seem used up for a moment.
    fn held(&self) -> Option<BulkHold> {
        let now = self.context.clock.now();
        self.context.rate_limiter.bulk_hold(now).filter(|held| held.until().since(now) > HOLD_SHOWN_MIN)
    }

    /// The balance of rows or deliveries; `None`: not known at the moment.
    fn rows(&self) -> Option<RowCounts> {
        if self.counts_deliveries {
            return Some(self.context.metrics.delivery_counts());
        }
        self.depth.borrow().and_then(|depth| depth.rows)
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let Context { metrics, gate, rate_limiter, .. } = &*self.context;
        rate_limiter.report_now();
        metrics.observed.set_bulk_hold(self.held().map(|held| held.code()));
        let (state, paused) = match gate.state() {
            GateState::Open => (GateStateName::Open, None),
            GateState::Throttled(_) => (GateStateName::Throttled, None),
            GateState::Paused(reason) => (GateStateName::Paused, Some(reason)),
            GateState::CircuitOpen => (GateStateName::CircuitOpen, None),
            GateState::Halted => (GateStateName::Halted, None),
        };
        metrics.observed.set_gate(state, paused);
        metrics.observed.set_losses(gate.links_being_lost().is_some(), gate.in_flight_allowed());
        metrics.observed.set_depth(self.depth.borrow().as_ref(), self.rows());
        metrics.render()
    }

    /// Everything that the page shows. Records a sample for the chart.
    pub(crate) fn snapshot(&self) -> StatusSnapshot {
        let status = self.status();
        self.context.rate_limiter.report_now();
        let metrics = &self.context.metrics;
        let now = StatusSample {
            at: Clock::System.now(),
            ended: EventType::ALL.map(|event_type| metrics.completed(event_type)),
            requests: metrics.requests_sent(),
            creations: metrics.creations(),
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.history.record(&now);
        let history = &inner.history;
        let (jobs_per_second, used_per_second) = history.rates(&now);
        let quantile = |share| history.answered_within(&now, share);
        let ended = |event_type: EventType| now.ended[event_type as usize] + self.before.of(event_type);
        let in_flight = metrics.in_flight();
        let workers = u64::try_from(metrics.observed.rate_workers.get()).unwrap_or(0);
        // While it is stopped, the rate before says nothing about the time left.
        let is_moving = status.ready && status.until.is_none();
        let depth = *self.depth.borrow();
        StatusSnapshot {
            version: env!("CARGO_PKG_VERSION"),
            at: now.at,
            started: self.started,
            status,
            ended: OutcomeTotals {
                created: ended(EventType::Created),
                existing: ended(EventType::Existing),
                rejected: ended(EventType::Rejected),
                failed: ended(EventType::Failed),
            },
            ended_before: self.before.total() - self.before.waiting,
            recovered: metrics.recovered(),
            links_lost: metrics.links_lost(),
            in_flight,
            jobs_per_second,
            rate: RateStatus {
                allowed_per_second: self.context.rate_limiter.effective_rate().shown(),
                used_per_second,
                workers,
            },
            latency: quantile(0.5).zip(quantile(0.99)).map(|(p50_s, p99_s)| ApiLatency { p50_s, p99_s }),
            queue: depth.map(|depth| {
                let all_per_second = if is_moving { jobs_per_second * workers.max(1) as f64 } else { 0.0 };
                queue_status(&depth, self.rows(), in_flight, all_per_second)
            }),
            errors: metrics.health.errors(),
            minutes: history.minutes(&now),
        }
    }
}

fn queue_status(depth: &QueueDepth, rows: Option<RowCounts>, in_flight: u64, jobs_per_second: f64) -> QueueStatus {
    let delayed = depth.delayed.iter().sum::<u64>();
    let in_flight = if depth.includes_in_flight { 0 } else { in_flight };
    let waiting = depth.ready.iter().sum::<u64>() + delayed + in_flight;
    let is_moving = jobs_per_second > 0.0 && waiting > 0;
    QueueStatus {
        signup: depth.ready[Lane::Signup as usize],
        bulk: depth.ready[Lane::Bulk as usize],
        delayed,
        dead: depth.dead,
        unrouted: depth.unrouted,
        unaccounted: rows.map(|rows| rows.difference()),
        left_s: is_moving.then(|| (waiting as f64 / jobs_per_second).ceil() as u64),
    }
}
