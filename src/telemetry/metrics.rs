//! The Prometheus metrics that events count. Label sets are closed: every value comes from an enum of this crate, or is
//! an HTTP status. docs/metrics.md lists them all, and a test holds it against what a worker exports.

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use crate::domain::decide::RetryReason;
use crate::domain::{AccountReason, EventType, Lane};
use crate::telemetry::facts::{BrokerConnection, HealthState};
use crate::telemetry::observed::{Observed, Rows};
use crate::telemetry::register::Register;
use crate::telemetry::trace::Spans;
use crate::telemetry::{RequeueReason, Stage};

/// Every metric of a worker, in a registry of its own, and the facts that go with them. Clones share both.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    build: IntGaugeVec,
    pub(super) received: IntCounterVec,
    pub(super) completed: IntCounterVec,
    pub(super) recovered: IntCounter,
    pub(super) requeue: IntCounterVec,
    pub(super) requests: IntCounterVec,
    pub(super) request_duration: HistogramVec,
    pub(super) job_duration: HistogramVec,
    pub(super) stages: HistogramVec,
    pub(super) retries: IntCounterVec,
    pub(super) paused: IntCounterVec,
    pub(super) sweeps: IntCounterVec,
    pub(super) reloads: IntCounterVec,
    pub(super) retry_budget_exhausted: IntCounter,
    pub(super) breaker_open: IntGauge,
    pub(super) list_refused: IntGauge,
    pub(super) reconnects: IntCounterVec,
    pub(super) published: IntCounterVec,
    pub(super) returned: IntCounter,
    pub(super) last_progress: Gauge,
    /// Users that a look-up needn't ask the partner for.
    pub cached_users: IntGauge,
    pub(super) in_flight: IntGaugeVec,
    /// 1 while there is no job to take.
    pub waiting_for_jobs: IntGauge,
    /// What is looked at when somebody asks.
    pub observed: Observed,
    /// What no number tells.
    pub facts: HealthState,
    /// Where spans go.
    pub spans: Spans,
}

/// From a fast answer on loopback to the longest time limit of a request that can be set.
const REQUEST_BUCKETS_S: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// From a job that finds an empty queue to one at the end of a migration.
const JOB_BUCKETS_S: &[f64] =
    &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Only where two metrics have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let register = Register(&registry);
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let metrics = Self {
            build: register.gauges(
                "plu_onboard_build_info",
                "1; its labels tell the version and the command.",
                &["version", "command"],
            )?,
            received: register.counters(
                "plu_onboard_jobs_received_total",
                "Jobs taken from the queue, repeated deliveries included.",
                &["lane"],
            )?,
            completed: register.counters(
                "plu_onboard_jobs_completed_total",
                "Jobs that ended, by outcome and lane.",
                &["outcome", "lane"],
            )?,
            recovered: register.counter(
                "plu_onboard_jobs_recovered_total",
                "Jobs whose user was created by an earlier request with a lost answer: without a link.",
            )?,
            requeue: register.counters(
                "plu_onboard_jobs_put_back_total",
                "Jobs given back to the queue, by reason.",
                &["reason"],
            )?,
            requests: register.counters(
                "plu_onboard_api_requests_total",
                "Requests to the partner API, by endpoint, class of the answer and HTTP status (none: no answer).",
                &["endpoint", "answer", "status"],
            )?,
            request_duration: register.histograms(
                "plu_onboard_api_request_duration_seconds",
                "Time from sending a request to its answer or its loss.",
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
                "Parts of a finished job's time: in the queue, for gate and pace, in the API, for the confirm.",
                "stage",
                JOB_BUCKETS_S,
            )?,
            retries: register.counters(
                "plu_onboard_retries_total",
                "Repetitions that were scheduled, by reason.",
                &["reason"],
            )?,
            paused: register.counters(
                "plu_onboard_pauses_total",
                "How often the worker paused, by reason.",
                &["reason"],
            )?,
            sweeps: register.counters(
                "plu_onboard_look_up_sweeps_total",
                "Sweeps of the partner's user list, by result.",
                &["result"],
            )?,
            reloads: register.counters(
                "plu_onboard_config_reloads_total",
                "Times the settings were read again, by result.",
                &["result"],
            )?,
            retry_budget_exhausted: register.counter(
                "plu_onboard_retry_budget_exhausted_total",
                "Repetitions that were put off because the retry budget was used up.",
            )?,
            breaker_open: register
                .int_gauge("plu_onboard_breaker_open", "1 while the circuit breaker keeps requests back.")?,
            cached_users: register
                .int_gauge("plu_onboard_look_up_cached_users", "Users whose look-up needs no request.")?,
            list_refused: register.int_gauge(
                "plu_onboard_look_up_refused",
                "1 while the partner refuses the user list and nothing else.",
            )?,
            reconnects: register.counters(
                "plu_onboard_broker_reconnects_total",
                "How often a connection to the broker was made anew.",
                &["connection"],
            )?,
            published: register.counters(
                "plu_onboard_events_published_total",
                "Events that are recorded or confirmed, by type.",
                &["type"],
            )?,
            returned: register
                .counter("plu_onboard_events_returned_total", "Messages that came back because no queue takes them.")?,
            last_progress: register.gauge(
                "plu_onboard_last_progress_timestamp_seconds",
                "When a job last ended; before the first, when the worker started.",
            )?,
            in_flight: register.gauges("plu_onboard_jobs_in_flight", "Jobs in hand.", &["lane"])?,
            waiting_for_jobs: register.int_gauge("plu_onboard_waiting_for_jobs", "1 while there is no job to take.")?,
            observed: Observed::new(&register)?,
            facts: HealthState::default(),
            spans: Spans::default(),
            registry,
        };
        metrics.show_zeros();
        Ok(metrics)
    }

    /// Labels that are known beforehand start at 0: a counter that appears with 1 has no rate.
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
        for reason in RequeueReason::ALL {
            self.requeue.with_label_values(&[reason.name()]);
        }
        for stage in Stage::ALL {
            self.stages.with_label_values(&[stage.name()]);
        }
        for endpoint in ["create", "list"] {
            self.request_duration.with_label_values(&[endpoint]);
        }
        let others = ["key_must_expire", "throttled", "retry_budget", "last_look_up"];
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
        for result in ["complete", "broken_off"] {
            self.sweeps.with_label_values(&[result]);
        }
    }

    /// The queue is on a broker: its connections are shown from now on, as down until they are up.
    pub fn expect_broker(&self) {
        for connection in BrokerConnection::ALL {
            self.reconnects.with_label_values(&[connection.name()]);
            self.set_connected(connection, Err("not connected yet"));
            self.set_blocked(connection, None);
        }
    }

    /// A connection came up or went down.
    pub(super) fn set_connected(&self, connection: BrokerConnection, state: Result<(), &str>) {
        self.observed.set_connected(connection, state.is_ok());
        if self.facts.set_link(connection, state) {
            self.reconnects.with_label_values(&[connection.name()]).inc();
        }
    }

    /// The broker takes nothing on a connection, and why; `None`: it does.
    pub(super) fn set_blocked(&self, connection: BrokerConnection, alarm: Option<&str>) {
        self.facts.set_blocked(connection, alarm);
        self.observed.set_blocked(connection, self.facts.takes_nothing(connection));
    }

    /// The broker refuses outcomes, and where; `None`: it takes them.
    pub(super) fn set_refusal(&self, refusal: Option<&str>) {
        self.facts.set_refusal(refusal);
        let publisher = BrokerConnection::Publisher;
        self.observed.set_blocked(publisher, self.facts.takes_nothing(publisher));
    }

    /// A message came back because no queue takes it.
    pub fn returned(&self) {
        self.returned.inc();
    }

    /// Which command works, and when it began: a `run` ends when it is done, and nobody misses it then.
    pub fn set_started(&self, command: &'static str, now: crate::domain::Timestamp) {
        self.build.with_label_values(&[env!("CARGO_PKG_VERSION"), command]).set(1);
        self.last_progress.set(now.unix_ms() as f64 / 1_000.0);
    }

    /// How many jobs ended like this, over both lanes.
    pub fn completed(&self, event_type: EventType) -> u64 {
        Lane::ALL.map(|lane| self.completed.with_label_values(&[event_type.short(), lane.name()]).get()).iter().sum()
    }

    /// How many jobs were created without a link.
    pub fn recovered(&self) -> u64 {
        self.recovered.get()
    }

    /// How many jobs are in hand.
    pub fn in_flight(&self) -> u64 {
        let in_flight: i64 = Lane::ALL.map(|lane| self.in_flight.with_label_values(&[lane.name()]).get()).iter().sum();
        u64::try_from(in_flight).unwrap_or(0)
    }

    /// Deliveries, and what became of them: each is settled, with an event or by giving it back, or is still in hand.
    pub fn deliveries(&self) -> Rows {
        // In this order none that arrives or is settled meanwhile looks lost.
        let returned: u64 =
            RequeueReason::ALL.map(|reason| self.requeue.with_label_values(&[reason.name()]).get()).iter().sum();
        let published: u64 =
            EventType::ALL.map(|event_type| self.published.with_label_values(&[event_type.name()]).get()).iter().sum();
        let total = Lane::ALL.map(|lane| self.received.with_label_values(&[lane.name()]).get()).iter().sum();
        Rows { total, finished: published + returned, waiting: self.in_flight() }
    }

    /// How many requests were sent, of any kind.
    pub fn requests_sent(&self) -> u64 {
        let families = self.requests.collect();
        let counters = families.iter().flat_map(|family| family.get_metric());
        counters.map(|counter| counter.get_counter().get_value() as u64).sum()
    }

    /// How many creations were sent, by how long they took: cumulative, with the upper bounds in seconds.
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

    /// The text exposition format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory fails only for an empty metric family, and none is registered.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}
