//! Where a job's time goes.

use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::Instant;

use crate::domain::decide::History;
use crate::domain::{EventType, Lane, Timestamp};
use crate::telemetry::Metrics;

/// A part of a job's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// On the queue, until it was first taken.
    Queue,
    /// For the gate, a slot, the intent on record and a turn in the pace.
    RateLimiter,
    /// For the partner's answer.
    Api,
    /// For the event to be recorded or confirmed.
    Confirm,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Queue, Self::RateLimiter, Self::Api, Self::Confirm];

    /// Its name in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::RateLimiter => "pace",
            Self::Api => "api",
            Self::Confirm => "confirm",
        }
    }
}

/// Why a job went back to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequeueReason {
    /// The worker was told to stop.
    Stopping,
    /// It waits there for its next attempt.
    Delayed,
    /// It alone is answered like the whole account.
    SetAside,
    /// It waited for its turn for too long, or a migration may not create users now.
    NoTurn,
    /// The connection to the broker broke, which gives the job out again.
    TakenBack,
}

impl RequeueReason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Stopping, Self::Delayed, Self::SetAside, Self::NoTurn, Self::TakenBack];

    /// Its name in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Delayed => "delayed",
            Self::SetAside => "set_aside",
            Self::NoTurn => "no_turn",
            Self::TakenBack => "taken_back",
        }
    }
}

/// Watches one job in hand. Its parts are shown once it has ended.
#[derive(Debug)]
pub struct JobWatch<'m> {
    metrics: &'m Metrics,
    lane: Lane,
    enqueued_at: Timestamp,
    spent: [Duration; 4],
    running: Option<(Stage, Instant)>,
    _in_hand: ActiveJob,
}

/// Counts a job for as long as it is in hand.
#[derive(Debug)]
struct ActiveJob(IntGauge);

impl ActiveJob {
    fn of(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for ActiveJob {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl<'m> JobWatch<'m> {
    /// A job was taken from the queue.
    pub fn taken(metrics: &'m Metrics, lane: Lane, history: &History, now: Timestamp) -> Self {
        metrics.received.with_label_values(&[lane.name()]).inc();
        let mut spent = [Duration::ZERO; 4];
        // Of a job that was in hand before nobody knows how long it only waited for its time.
        if *history == History::new(history.enqueued_at) {
            spent[Stage::Queue as usize] = now.since(history.enqueued_at);
        }
        let in_flight = ActiveJob::of(metrics.in_flight.with_label_values(&[lane.name()]));
        Self { metrics, lane, enqueued_at: history.enqueued_at, spent, running: None, _in_hand: in_flight }
    }

    /// Where it waited.
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// From now on its time is spent on this; `None`: on none of them.
    pub fn enters(&mut self, stage: Option<Stage>) {
        let now = Instant::now();
        if let Some((before, since)) = self.running.take() {
            self.spent[before as usize] += now - since;
        }
        self.running = stage.map(|stage| (stage, now));
    }

    /// Its event is recorded or confirmed.
    pub fn confirmed(mut self, event_type: EventType, now: Timestamp) {
        self.enters(None);
        let Self { metrics, lane, enqueued_at, spent, .. } = self;
        metrics.published.with_label_values(&[event_type.name()]).inc();
        metrics.job_duration.with_label_values(&[lane.name()]).observe(now.since(enqueued_at).as_secs_f64());
        for stage in Stage::ALL {
            metrics.stages.with_label_values(&[stage.name()]).observe(spent[stage as usize].as_secs_f64());
        }
        metrics.last_progress.set(now.unix_ms() as f64 / 1_000.0);
    }

    /// It went back to the queue.
    pub fn requeue(self, reason: RequeueReason) {
        self.metrics.requeue.with_label_values(&[reason.name()]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Rows;

    #[test]
    fn a_delivery_that_is_let_go_of_without_being_settled_is_unaccounted_for() {
        let metrics = Metrics::new().unwrap();
        let now = Timestamp::from_unix_ms(0);
        let take = || JobWatch::taken(&metrics, Lane::Signup, &History::new(now), now);
        let (finished, returned, in_flight) = (take(), take(), take());
        finished.confirmed(EventType::Created, now);
        returned.requeue(RequeueReason::Delayed);
        assert_eq!(metrics.deliveries(), Rows { total: 3, finished: 2, waiting: 1 });
        assert_eq!(metrics.deliveries().difference(), 0);
        drop(in_flight);
        assert_eq!(metrics.deliveries().difference(), 1);
    }
}
