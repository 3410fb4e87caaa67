//! Metrics that are read when `/metrics` is requested: state of the gate, rate limit and queue.
//!
//! **Invariant:** a value that isn't known is absent. A stale one would look like a queue without progress.

use prometheus::{Error, Gauge, GaugeVec, IntGauge, IntGaugeVec};
use strum::VariantArray;

use crate::domain::{AccountReason, Lane};
use crate::telemetry::health_state::BrokerConnection;
use crate::telemetry::registrar::MetricRegistrar;

/// State of the gate, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum GateStateName {
    /// Requests are sent, at the rate limit.
    Open,
    /// Nothing is sent until the time that the partner gave (429).
    Throttled,
    /// Only probes are sent.
    Paused,
    /// Only the pages and trials of the circuit breaker are sent.
    CircuitOpen,
    /// `bulk` waits for an operator.
    Halted,
}

impl GateStateName {
    /// All states.
    pub const ALL: [Self; 5] = *Self::VARIANTS.as_array().unwrap();

    /// Name in labels.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }
}

/// Settings of `[rate_limit]` that can hold `bulk`.
const HOLD_REASONS: [&str; 2] = ["active_hours", "per_day"];

/// Contents of the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Jobs that are due, by [`Lane::ALL`].
    pub ready: [u64; 2],
    /// Jobs that wait for their delay, by [`Lane::ALL`].
    pub delayed: [u64; 2],
    /// Dead letters.
    pub dead: u64,
    /// Events without a bound reader; `None` if there is no queue for them.
    pub unrouted: Option<u64>,
    /// Counts of rows; `None` if the queue has no rows.
    pub rows: Option<RowCounts>,
    /// Whether `ready` includes the jobs that workers hold.
    pub includes_in_flight: bool,
}

/// Counts of the rows of an embedded queue, or of the deliveries from a broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows on the queue, or deliveries received.
    pub total: u64,
    /// Rows with an outcome; deliveries with an outcome or requeued.
    pub finished: u64,
    /// Rows without an outcome; deliveries that the worker holds.
    pub waiting: u64,
}

impl RowCounts {
    /// Rows that are neither finished nor waiting. Must be 0.
    pub fn difference(&self) -> i64 {
        int(self.total) - int(self.finished) - int(self.waiting)
    }
}

/// The metrics that are read when `/metrics` is requested.
#[derive(Debug, Clone)]
pub struct ObservedMetrics {
    gate: IntGaugeVec,
    paused: IntGaugeVec,
    held: IntGaugeVec,
    connected: IntGaugeVec,
    blocked: IntGaugeVec,
    topology_mismatch: IntGaugeVec,
    ready: IntGaugeVec,
    delayed: IntGaugeVec,
    dead: IntGaugeVec,
    unrouted: IntGaugeVec,
    rows: IntGaugeVec,
    rows_finished: IntGaugeVec,
    difference: IntGaugeVec,
    partner_clock: IntGaugeVec,
    rate_allowed: GaugeVec,
    links_being_lost: IntGauge,
    in_flight_allowed: IntGauge,
    /// Requests per second of the settings, for all workers together; 0: no limit.
    pub rate_configured: Gauge,
    /// Workers that share the rate limit; 0: not known yet.
    pub rate_workers: IntGauge,
}

impl ObservedMetrics {
    pub(super) fn new(register: &MetricRegistrar<'_>) -> Result<Self, Error> {
        Ok(Self {
            gate: register.gauges("plu_onboard_gate_state", "1 for the current state of the gate.", &["state"])?,
            paused: register.gauges(
                "plu_onboard_gate_paused",
                "1 while the worker is paused for this reason.",
                &["reason"],
            )?,
            held: register.gauges(
                "plu_onboard_bulk_held",
                "1 while the lane bulk is held for this reason.",
                &["reason"],
            )?,
            connected: register.gauges(
                "plu_onboard_broker_connected",
                "1 while the connection to the broker is up.",
                &["connection"],
            )?,
            blocked: register.gauges(
                "plu_onboard_broker_blocked",
                "1 while the broker accepts no messages on the connection: an alarm, or a full or missing queue.",
                &["connection"],
            )?,
            topology_mismatch: register.gauges(
                "plu_onboard_broker_topology_mismatch",
                "1 while an exchange, a queue or a binding on the broker is missing or different.",
                &[],
            )?,
            ready: register.gauges(
                "plu_onboard_queue_jobs",
                "Jobs that are due; on the embedded queue those that workers hold are included.",
                &["lane"],
            )?,
            delayed: register.gauges(
                "plu_onboard_queue_delayed_jobs",
                "Jobs that wait for a delayed retry.",
                &["lane"],
            )?,
            dead: register.gauges("plu_onboard_queue_dead_letters", "Dead letters.", &[])?,
            unrouted: register.gauges("plu_onboard_queue_unrouted_events", "Events without a bound reader.", &[])?,
            rows: register.gauges(
                "plu_onboard_rows",
                "Rows or jobs on the embedded queue; on RabbitMQ deliveries to this worker.",
                &[],
            )?,
            rows_finished: register.gauges(
                "plu_onboard_rows_finished",
                "Rows with an outcome; on RabbitMQ deliveries with an outcome or requeued.",
                &[],
            )?,
            difference: register.gauges(
                "plu_onboard_conservation_difference",
                "Rows or deliveries that are neither finished nor waiting; must be 0.",
                &[],
            )?,
            partner_clock: register.gauges(
                "plu_onboard_partner_clock_difference_seconds",
                "Seconds by which the partner's clock is ahead, at least, from the dates of its answers.",
                &[],
            )?,
            rate_allowed: register.float_gauges(
                "plu_onboard_rate_limit_allowed_requests_per_second",
                "Requests per second that this worker may send; 0: no limit. Absent while workers are being counted.",
                &[],
            )?,
            links_being_lost: register.int_gauge(
                "plu_onboard_links_being_lost",
                "1 from the third creation in a row without an answer on, until one is answered.",
            )?,
            in_flight_allowed: register.int_gauge(
                "plu_onboard_creations_in_flight_allowed",
                "Creations that may be in flight: worker.concurrency, or fewer while creations are lost in a row.",
            )?,
            rate_workers: register
                .int_gauge("plu_onboard_rate_limit_workers", "Workers that share the rate limit; 0: not known yet.")?,
            rate_configured: register.gauge(
                "plu_onboard_rate_limit_configured_requests_per_second",
                "Requests per second of the settings, for all workers together; 0: no limit.",
            )?,
        })
    }

    /// Sets the state of the gate, and why it is paused.
    pub fn set_gate(&self, state: GateStateName, paused: Option<AccountReason>) {
        for each in GateStateName::ALL {
            self.gate.with_label_values(&[each.name()]).set(i64::from(each == state));
        }
        let paused = paused.map(AccountReason::code);
        for code in AccountReason::ALL.map(AccountReason::code) {
            self.paused.with_label_values(&[code]).set(i64::from(paused == Some(code)));
        }
        self.paused.with_label_values(&["halted"]).set(i64::from(state == GateStateName::Halted));
    }

    /// Sets whether links are being lost, and how many creations may be in flight.
    pub fn set_losses(&self, links_being_lost: bool, in_flight_allowed: usize) {
        self.links_being_lost.set(i64::from(links_being_lost));
        self.in_flight_allowed.set(int(in_flight_allowed as u64));
    }

    /// Sets why `bulk` is held; `None` if it isn't.
    pub fn set_bulk_hold(&self, held: Option<&'static str>) {
        for reason in HOLD_REASONS {
            self.held.with_label_values(&[reason]).set(i64::from(held == Some(reason)));
        }
    }

    /// Sets the seconds by which the partner's clock is ahead of this machine's.
    pub fn set_partner_clock(&self, seconds: i64) {
        self.partner_clock.with_label_values::<&str>(&[]).set(seconds);
    }

    /// Sets the requests per second that may be sent now (0: no limit); `None` while workers are being counted.
    pub fn set_rate_allowed(&self, per_second: Option<f64>) {
        match per_second {
            Some(per_second) => self.rate_allowed.with_label_values::<&str>(&[]).set(per_second),
            None => self.rate_allowed.reset(),
        }
    }

    pub(super) fn set_connected(&self, connection: BrokerConnection, is_up: bool) {
        self.connected.with_label_values(&[connection.name()]).set(i64::from(is_up));
    }

    /// Sets whether an exchange, a queue or a binding on the broker is missing or different.
    pub fn set_topology_mismatch(&self, is_mismatch: bool) {
        self.topology_mismatch.with_label_values::<&str>(&[]).set(i64::from(is_mismatch));
    }

    pub(super) fn set_blocked(&self, connection: BrokerConnection, is_blocked: bool) {
        self.blocked.with_label_values(&[connection.name()]).set(i64::from(is_blocked));
    }

    /// Sets the contents of the queue (`None` if it could not be read) and the row counts.
    pub fn set_depth(&self, depth: Option<&QueueDepth>, rows: Option<RowCounts>) {
        for lane in Lane::ALL {
            set_or_remove(&self.ready, &[lane.name()], depth.map(|depth| depth.ready[lane as usize]));
            set_or_remove(&self.delayed, &[lane.name()], depth.map(|depth| depth.delayed[lane as usize]));
        }
        set_or_remove(&self.dead, &[], depth.map(|depth| depth.dead));
        set_or_remove(&self.unrouted, &[], depth.and_then(|depth| depth.unrouted));
        set_or_remove(&self.rows, &[], rows.map(|rows| rows.total));
        set_or_remove(&self.rows_finished, &[], rows.map(|rows| rows.finished));
        match rows {
            Some(rows) => self.difference.with_label_values::<&str>(&[]).set(rows.difference()),
            None => self.difference.reset(),
        }
    }
}

fn set_or_remove(gauge: &IntGaugeVec, labels: &[&str], value: Option<u64>) {
    match value {
        Some(value) => gauge.with_label_values(labels).set(int(value)),
        // An error only means that there was no value.
        None => drop(gauge.remove_label_values(labels)),
    }
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
