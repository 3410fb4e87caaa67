//! The Prometheus metrics that events update.
//!
//! **Invariant:** label sets are closed: each value comes from an enum of this crate or is an HTTP status.
//! docs/metrics.md lists all metrics, and a test compares it with what a worker exports.

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use crate::domain::decide::RetryReason;
use crate::domain::link::LinkLossCounts;
use crate::domain::{AccountReason, EventType, Lane, LinkLoss};
use crate::telemetry::health_state::{BrokerConnection, HealthState};
use crate::telemetry::observed::{ObservedMetrics, RowCounts};
use crate::telemetry::registrar::MetricRegistrar;
use crate::telemetry::trace::SpanRecorder;
use crate::telemetry::{JobStage, RequeueReason};

/// Every metric of a worker in a registry of its own, the health state and the span recorder. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    build: IntGaugeVec,
    pub(super) received: IntCounterVec,
    pub(super) completed: IntCounterVec,
    pub(super) recovered: IntCounter,
    pub(super) links_lost: IntCounterVec,
    pub(super) repeated: IntCounter,
    pub(super) wrong_users: IntCounterVec,
    pub(super) requeued: IntCounterVec,
    pub(super) requests: IntCounterVec,
    pub(super) request_duration: HistogramVec,
    pub(super) job_duration: HistogramVec,
    pub(super) stages: HistogramVec,
    pub(super) retries: IntCounterVec,
    pub(super) paused: IntCounterVec,
    pub(super) user_list_scans: IntCounterVec,
    pub(super) reloads: IntCounterVec,
    pub(super) circuit_breaker_open: IntGauge,
    pub(super) user_list_refused: IntGauge,
    queue_unwritable: IntGauge,
    pub(super) reconnects: IntCounterVec,
    pub(super) published: IntCounterVec,
    pub(super) events_returned: IntCounter,
    pub(super) last_progress: Gauge,
    /// Users whose look-up needs no request.
    pub cached_users: IntGauge,
    pub(super) in_flight: IntGaugeVec,
    /// 1 while there is no job to take.
    pub waiting_for_jobs: IntGauge,
    /// Metrics that are read when `/metrics` is requested.
    pub observed: ObservedMetrics,
    /// Health beside the metrics: connections, last errors, source of the API key.
    pub health: HealthState,
    /// Records the spans of jobs and requests.
    pub spans: SpanRecorder,
}

/// From a fast answer on loopback to the longest time limit that can be set for a request.
const REQUEST_BUCKETS_S: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// From a job on an empty queue to one at the end of a migration.
const JOB_BUCKETS_S: &[f64] =
    &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// Only if two metrics have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let register = MetricRegistrar(&registry);
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let metrics = Self {
            build: register.gauges(
                "plu_onboard_build_info",
                "Always 1; the labels are the version and the command.",
                &["version", "command"],
            )?,
            received: register.counters(
                "plu_onboard_jobs_received_total",
                "Jobs received from the queue, redeliveries included.",
                &["lane"],
            )?,
            completed: register.counters(
                "plu_onboard_jobs_completed_total",
                "Finished jobs, by outcome and lane.",
                &["outcome", "lane"],
            )?,
            recovered: register.counter(
                "plu_onboard_jobs_recovered_total",
                "Jobs whose user was created by a request with a lost answer.",
            )?,
            links_lost: register.counters(
                "plu_onboard_links_lost_total",
                "Created users without a usable verification link, by reason.",
                &["reason"],
            )?,
            repeated: register.counter(
                "plu_onboard_jobs_repeated_total",
                "Jobs that got the outcome of an identical job without a request.",
            )?,
            wrong_users: register.counters(
                "plu_onboard_wrong_users_total",
                "Answers of the API with a user that was reported for another person, by endpoint.",
                &["endpoint"],
            )?,
            requeued: register.counters(
                "plu_onboard_jobs_requeued_total",
                "Jobs put on the queue again, by reason.",
                &["reason"],
            )?,
            requests: register.counters(
                "plu_onboard_api_requests_total",
                "Requests to the partner API, by endpoint, kind of answer and HTTP status (none: no answer).",
                &["endpoint", "answer", "status"],
            )?,
            request_duration: register.histograms(
                "plu_onboard_api_request_duration_seconds",
                "Time from sending a request to its answer or failure.",
                "endpoint",
                REQUEST_BUCKETS_S,
            )?,
            job_duration: register.histograms(
                "plu_onboard_job_duration_seconds",
                "Time from a job's arrival on the queue to its confirmed event.",
                "lane",
                JOB_BUCKETS_S,
            )?,
            stages: register.histograms(
                "plu_onboard_job_stage_seconds",
                "Stages of a finished job's time: queue, waiting for the permit to send, API, confirm of the event.",
                "stage",
                JOB_BUCKETS_S,
            )?,
            retries: register.counters("plu_onboard_retries_total", "Retries scheduled, by reason.", &["reason"])?,
            paused: register.counters("plu_onboard_pauses_total", "Pauses of the worker, by reason.", &["reason"])?,
            user_list_scans: register.counters(
                "plu_onboard_user_list_scans_total",
                "Scans of the partner's user list, by result.",
                &["result"],
            )?,
            reloads: register.counters(
                "plu_onboard_config_reloads_total",
                "Reloads of the settings, by result.",
                &["result"],
            )?,
            circuit_breaker_open: register
                .int_gauge("plu_onboard_circuit_breaker_open", "1 while the circuit breaker is open or half-open.")?,
            cached_users: register
                .int_gauge("plu_onboard_user_list_cached_users", "Users whose look-up needs no request.")?,
            user_list_refused: register.int_gauge(
                "plu_onboard_user_list_refused",
                "1 while the partner refuses the user list but creates users.",
            )?,
            queue_unwritable: register.int_gauge(
                "plu_onboard_queue_unwritable",
                "1 while outcomes can't be written to the embedded queue or its events file.",
            )?,
            reconnects: register.counters(
                "plu_onboard_broker_reconnects_total",
                "Reconnects to the broker, by connection.",
                &["connection"],
            )?,
            published: register.counters(
                "plu_onboard_events_published_total",
                "Events confirmed by the broker or recorded in the embedded queue, by type.",
                &["type"],
            )?,
            events_returned: register.counter(
                "plu_onboard_events_returned_total",
                "Events that the broker returned: no queue accepts them.",
            )?,
            last_progress: register.gauge(
                "plu_onboard_last_progress_timestamp_seconds",
                "Time of the last finished job; before the first one, start of the worker.",
            )?,
            in_flight: register.gauges("plu_onboard_jobs_in_flight", "Jobs that the worker holds.", &["lane"])?,
            waiting_for_jobs: register.int_gauge("plu_onboard_waiting_for_jobs", "1 while no job is due.")?,
            observed: ObservedMetrics::new(&register)?,
            health: HealthState::default(),
            spans: SpanRecorder::default(),
            registry,
        };
        metrics.show_zeros();
        Ok(metrics)
    }

    /// Creates each series with known labels at 0. A counter that first appears with the value 1 has no increase in
    /// Prometheus, so its first event would be missing in every rate.
    fn show_zeros(&self) {
        for lane in Lane::ALL.map(Lane::name) {
            self.received.with_label_values(&[lane]);
            self.in_flight.with_label_values(&[lane]);
            self.job_duration.with_label_values(&[lane]);
            for event_type in EventType::ALL {
                self.completed.with_label_values(&[event_type.short(), lane]);
                self.published.with_label_values(&[event_type.name()]);
            }
        }
        for reason in LinkLoss::ALL {
            self.links_lost.with_label_values(&[reason.code()]);
        }
        for reason in RequeueReason::ALL {
            self.requeued.with_label_values(&[reason.name()]);
        }
        for stage in JobStage::ALL {
            self.stages.with_label_values(&[stage.name()]);
        }
        for endpoint in ["create", "list"] {
            self.request_duration.with_label_values(&[endpoint]);
            self.wrong_users.with_label_values(&[endpoint]);
        }
        let others = ["key_must_expire", "throttled", "last_look_up", "id_not_listed"];
        for reason in RetryReason::ALL.into_iter().map(RetryReason::code).chain(others) {
            self.retries.with_label_values(&[reason]);
        }
        for reason in AccountReason::ALL {
            self.paused.with_label_values(&[reason.code()]);
        }
        self.paused.with_label_values(&["halted"]);
        for result in ["applied", "refused"] {
            self.reloads.with_label_values(&[result]);
        }
        for result in ["complete", "aborted"] {
            self.user_list_scans.with_label_values(&[result]);
        }
    }

    /// Shows the broker's connections from now on, as down until they are up.
    pub fn expect_broker(&self) {
        for connection in BrokerConnection::ALL {
            self.reconnects.with_label_values(&[connection.name()]);
            self.set_connected(connection, Err("not connected yet"));
            self.set_blocked(connection, None);
        }
    }

    /// Sets a connection to up, or to down with the reason.
    pub(super) fn set_connected(&self, connection: BrokerConnection, state: Result<(), &str>) {
        self.observed.set_connected(connection, state.is_ok());
        if self.health.set_connection(connection, state) {
            self.reconnects.with_label_values(&[connection.name()]).inc();
        }
    }

    /// Sets the broker's alarm on a connection; `None` if it has none.
    pub(super) fn set_blocked(&self, connection: BrokerConnection, alarm: Option<&str>) {
        self.health.set_blocked(connection, alarm);
        self.observed.set_blocked(connection, self.health.is_blocked(connection));
    }

    /// Sets whether the broker doesn't confirm outcomes.
    pub(super) fn set_silent(&self, is_silent: bool) {
        self.health.set_silent(is_silent);
        let publisher = BrokerConnection::Publisher;
        self.observed.set_blocked(publisher, self.health.is_blocked(publisher));
    }

    /// Sets why outcomes can't be written to the embedded queue or its events file; `None` if they can.
    pub(super) fn set_storage_failure(&self, failure: Option<&str>) {
        self.health.set_storage_failure(failure);
        self.queue_unwritable.set(i64::from(failure.is_some()));
    }

    /// Sets where the broker refuses outcomes; `None` if it accepts them.
    pub(super) fn set_refusal(&self, refusal: Option<&str>) {
        self.health.set_refusal(refusal);
        let publisher = BrokerConnection::Publisher;
        self.observed.set_blocked(publisher, self.health.is_blocked(publisher));
    }

    /// Counts an event that the broker returned because no queue takes it.
    pub fn event_returned(&self) {
        self.events_returned.inc();
    }

    /// Sets the command, by which alerts leave out a `run`, which ends when it is done; and the time of its start.
    pub fn set_started(&self, command: &'static str, now: crate::domain::Timestamp) {
        self.build.with_label_values(&[env!("CARGO_PKG_VERSION"), command]).set(1);
        self.last_progress.set(now.unix_ms() as f64 / 1_000.0);
    }

    /// Finished jobs with this outcome, over both lanes.
    pub fn completed(&self, event_type: EventType) -> u64 {
        Lane::ALL.map(|lane| self.completed.with_label_values(&[event_type.short(), lane.name()]).get()).iter().sum()
    }

    /// Created users without a usable link, by reason.
    pub fn links_lost(&self) -> LinkLossCounts {
        LinkLossCounts::of(|reason| self.links_lost.with_label_values(&[reason.code()]).get())
    }

    /// Recovered users: created by a request with a lost answer.
    pub fn recovered(&self) -> u64 {
        self.recovered.get()
    }

    /// Jobs that the worker holds.
    pub fn in_flight(&self) -> u64 {
        let in_flight: i64 = Lane::ALL.map(|lane| self.in_flight.with_label_values(&[lane.name()]).get()).iter().sum();
        u64::try_from(in_flight).unwrap_or(0)
    }

    /// Counts of deliveries: each is finished with an event, requeued, or still held by the worker.
    pub fn delivery_counts(&self) -> RowCounts {
        // Read in this order, so that a delivery that arrives or is settled meanwhile doesn't look lost.
        let requeued: u64 =
            RequeueReason::ALL.map(|reason| self.requeued.with_label_values(&[reason.name()]).get()).iter().sum();
        let published: u64 =
            EventType::ALL.map(|event_type| self.published.with_label_values(&[event_type.name()]).get()).iter().sum();
        let total = Lane::ALL.map(|lane| self.received.with_label_values(&[lane.name()]).get()).iter().sum();
        RowCounts { total, finished: published + requeued, waiting: self.in_flight() }
    }

    /// Requests sent, creations and pages of the user list.
    pub fn requests_sent(&self) -> u64 {
        let families = self.requests.collect();
        let counters = families.iter().flat_map(|family| family.get_metric());
        counters.map(|counter| counter.get_counter().get_value() as u64).sum()
    }

    /// Creations by duration: upper bounds in seconds, with cumulative counts.
    pub fn creations(&self) -> Vec<(f64, u64)> {
        let histogram: Histogram = self.request_duration.with_label_values(&["create"]);
        let families = histogram.collect();
        let metric = families.first().and_then(|family| family.get_metric().first());
        let buckets = metric.map(|metric| metric.get_histogram().get_bucket().to_vec()).unwrap_or_default();
        let mut counts: Vec<_> =
            buckets.iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).collect();
        counts.push((f64::INFINITY, histogram.get_sample_count()));
        counts
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Fails only for an empty metric family, and none is registered.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}
