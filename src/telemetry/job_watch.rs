//! Measures where a job's time goes, and counts jobs in progress, requeued and finished.

use std::time::Duration;

use prometheus::IntGauge;
use strum::VariantArray;
use tokio::time::Instant;

use crate::domain::decide::History;
use crate::domain::{EventType, Lane, Timestamp};
use crate::telemetry::Metrics;

/// A stage of a job's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum JobStage {
    /// On the queue, until the first delivery.
    Queue,
    /// Waiting for the permit to send: gate, in-flight slot, recorded intent, rate limit.
    Permit,
    /// Waiting for the partner's answer.
    Api,
    /// Waiting until the event is recorded or confirmed.
    Confirm,
}

impl JobStage {
    /// All stages, in their order.
    pub const ALL: [Self; 4] = *Self::VARIANTS.as_array().unwrap();

    /// Name in labels.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }
}

/// Why a job was requeued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum RequeueReason {
    /// The worker stops.
    Stopping,
    /// The job waits on the queue for its delayed retry.
    Delayed,
    /// The job is an outlier: it alone gets an account-level answer.
    Outlier,
    /// The job waited too long for its permit to send, or `bulk` is held.
    NoPermit,
    /// Too many jobs wait for an earlier job about the same person.
    PersonBusy,
    /// The connection to the broker was lost, and the broker delivers the job again.
    ConnectionLost,
}

impl RequeueReason {
    pub const ALL: [Self; 6] = *Self::VARIANTS.as_array().unwrap();

    /// Name in labels.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }
}

/// Watches one job while the worker holds it. The stages are added to the metrics when the job finishes.
#[derive(Debug)]
pub struct JobWatch<'m> {
    metrics: &'m Metrics,
    lane: Lane,
    enqueued_at: Timestamp,
    spent: [Duration; 4],
    running: Option<(JobStage, Instant)>,
    _in_flight: InFlightGuard,
}

/// Counts a job in `plu_onboard_jobs_in_flight` until it is dropped.
#[derive(Debug)]
struct InFlightGuard(IntGauge);

impl InFlightGuard {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl<'m> JobWatch<'m> {
    /// Starts with a delivery.
    pub fn start(metrics: &'m Metrics, lane: Lane, history: &History, now: Timestamp) -> Self {
        metrics.received.with_label_values(&[lane.name()]).inc();
        let mut spent = [Duration::ZERO; 4];
        // Only for the first delivery this is the time on the queue: later ones include delays.
        if *history == History::new(history.enqueued_at) {
            spent[JobStage::Queue as usize] = now.since(history.enqueued_at);
        }
        let in_flight = InFlightGuard::new(metrics.in_flight.with_label_values(&[lane.name()]));
        Self { metrics, lane, enqueued_at: history.enqueued_at, spent, running: None, _in_flight: in_flight }
    }

    /// The lane the job came from.
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// Counts the time from now on as this stage; `None`: as none.
    pub fn enter_stage(&mut self, stage: Option<JobStage>) {
        let now = Instant::now();
        if let Some((before, since)) = self.running.take() {
            self.spent[before as usize] += now - since;
        }
        self.running = stage.map(|stage| (stage, now));
    }

    /// Ends with the event recorded or confirmed.
    pub fn confirmed(mut self, event_type: EventType, now: Timestamp) {
        self.enter_stage(None);
        let Self { metrics, lane, enqueued_at, spent, .. } = self;
        metrics.published.with_label_values(&[event_type.name()]).inc();
        metrics.job_duration.with_label_values(&[lane.name()]).observe(now.since(enqueued_at).as_secs_f64());
        for stage in JobStage::ALL {
            metrics.stages.with_label_values(&[stage.name()]).observe(spent[stage as usize].as_secs_f64());
        }
        metrics.last_progress.set(now.unix_ms() as f64 / 1_000.0);
    }

    /// Ends with the job back on the queue.
    pub fn requeued(self, reason: RequeueReason) {
        self.metrics.requeued.with_label_values(&[reason.name()]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::RowCounts;

    #[test]
    fn a_delivery_that_is_dropped_without_being_settled_is_unaccounted_for() {
        let metrics = Metrics::new().unwrap();
        let now = Timestamp::from_unix_ms(0);
        let start = || JobWatch::start(&metrics, Lane::Signup, &History::new(now), now);
        let (finished, requeued, in_flight) = (start(), start(), start());
        finished.confirmed(EventType::Created, now);
        requeued.requeued(RequeueReason::Delayed);
        assert_eq!(metrics.delivery_counts(), RowCounts { total: 3, finished: 2, waiting: 1 });
        assert_eq!(metrics.delivery_counts().difference(), 0);
        drop(in_flight);
        assert_eq!(metrics.delivery_counts().difference(), 1);
    }
}
