//! Metrics that are looked at rather than counted: what the gate, the pace and the queue are like when somebody asks.
//!
//! **Invariant:** a number that can't be had is absent. A stale one would look like a queue that stands still.

use prometheus::{Error, Gauge, GaugeVec, IntGauge, IntGaugeVec};

use crate::domain::{AccountReason, Lane};
use crate::telemetry::facts::BrokerConnection;
use crate::telemetry::register::Register;

/// How the gate is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateStateName {
    /// Requests leave at the pace.
    Open,
    /// The partner asked for patience.
    Throttled,
    /// Nothing but a probe leaves.
    Paused,
    /// The circuit breaker lets a few trials through.
    CircuitOpen,
    /// Bulk jobs wait for a person.
    Halted,
}

impl GateStateName {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Open, Self::Throttled, Self::Paused, Self::CircuitOpen, Self::Halted];

    /// Its name in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Throttled => "throttled",
            Self::Paused => "paused",
            Self::CircuitOpen => "broken",
            Self::Halted => "halted",
        }
    }
}

/// Why `bulk` may be held, as the settings call it.
const HELD_REASONS: [&str; 2] = ["active_hours", "per_day"];

/// What lies on the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Ready to be taken, by [`Lane::ALL`].
    pub ready: [u64; 2],
    /// Waiting for their time.
    pub delayed: [u64; 2],
    /// Dead letters.
    pub dead: u64,
    /// Events that nobody is bound to; `None` where there is no such queue.
    pub unrouted: Option<u64>,
    /// Rows of files; `None` where the queue doesn't know rows.
    pub rows: Option<Rows>,
    /// Whether `ready` counts the jobs in hand too.
    pub includes_in_hand: bool,
}

/// Rows of files, or deliveries of a broker, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows {
    /// Read in, or taken.
    pub total: u64,
    /// With an outcome, or given back.
    pub finished: u64,
    /// Without one yet; of deliveries those in hand.
    pub waiting: u64,
}

impl Rows {
    /// Rows that are neither: must be 0.
    pub fn difference(&self) -> i64 {
        int(self.total) - int(self.finished) - int(self.waiting)
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Observed {
    gate: IntGaugeVec,
    paused: IntGaugeVec,
    held: IntGaugeVec,
    connected: IntGaugeVec,
    blocked: IntGaugeVec,
    topology_amiss: IntGaugeVec,
    ready: IntGaugeVec,
    delayed: IntGaugeVec,
    dead: IntGaugeVec,
    unrouted: IntGaugeVec,
    rows: IntGaugeVec,
    rows_finished: IntGaugeVec,
    difference: IntGaugeVec,
    partner_clock: IntGaugeVec,
    rate_allowed: GaugeVec,
    /// Requests per second as they were set, for all workers together; 0: no limit.
    pub rate_configured: Gauge,
    /// Workers that share the pace; 0: not known.
    pub rate_workers: IntGauge,
}

impl Observed {
    pub(super) fn new(register: &Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            gate: register.gauges("plu_onboard_gate_state", "1 for the state that the gate is in.", &["state"])?,
            paused: register.gauges(
                "plu_onboard_gate_paused",
                "1 while the work is paused for this reason.",
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
                "1 while the broker takes nothing on the connection: it has an alarm, or a queue there is full or missing.",
                &["connection"],
            )?,
            topology_amiss: register.gauges(
                "plu_onboard_broker_topology_amiss",
                "1 while something that is needed on the broker is missing or different.",
                &[],
            )?,
            ready: register.gauges(
                "plu_onboard_queue_jobs",
                "Jobs that are ready to be taken; in the embedded queue with those in hand.",
                &["lane"],
            )?,
            delayed: register.gauges("plu_onboard_queue_delayed_jobs", "Jobs that wait for their time.", &["lane"])?,
            dead: register.gauges("plu_onboard_queue_dead_jobs", "Dead letters.", &[])?,
            unrouted: register.gauges(
                "plu_onboard_queue_unrouted_events",
                "Events that no reader is bound to.",
                &[],
            )?,
            rows: register.gauges(
                "plu_onboard_rows",
                "Rows, or jobs, in the embedded queue; deliveries that this worker took from RabbitMQ.",
                &[],
            )?,
            rows_finished: register.gauges(
                "plu_onboard_rows_finished",
                "Those with an outcome; of deliveries those that were given back too.",
                &[],
            )?,
            difference: register.gauges(
                "plu_onboard_conservation_difference",
                "Those that neither wait, or are in hand, nor are finished: must be 0.",
                &[],
            )?,
            partner_clock: register.gauges(
                "plu_onboard_partner_clock_difference_seconds",
                "By how much the partner's clock is ahead of ours at least, as the dates of its answers say.",
                &[],
            )?,
            rate_allowed: register.fractions(
                "plu_onboard_rate_limit_allowed_requests_per_second",
                "Requests that this worker may send in a second; 0: no limit. Absent while workers are being counted.",
                &[],
            )?,
            rate_workers: register
                .int_gauge("plu_onboard_rate_limit_workers", "Workers that share the pace; 0: not known yet.")?,
            rate_configured: register.gauge(
                "plu_onboard_rate_limit_configured_requests_per_second",
                "Requests in a second that the settings allow; 0: no limit.",
            )?,
        })
    }

    /// Shows the gate; `paused`: for what.
    pub fn set_gate(&self, word: GateStateName, paused: Option<AccountReason>) {
        for each in GateStateName::ALL {
            self.gate.with_label_values(&[each.name()]).set(i64::from(each == word));
        }
        let paused = paused.map(AccountReason::code);
        for code in AccountReason::ALL.map(AccountReason::code) {
            self.paused.with_label_values(&[code]).set(i64::from(paused == Some(code)));
        }
        self.paused.with_label_values(&["halted"]).set(i64::from(word == GateStateName::Halted));
    }

    /// Shows whether the lane `bulk` is held on purpose, and why.
    pub fn set_held(&self, held: Option<&'static str>) {
        for reason in HELD_REASONS {
            self.held.with_label_values(&[reason]).set(i64::from(held == Some(reason)));
        }
    }

    /// Shows by how many seconds the partner's clock is ahead of ours.
    pub fn set_partner_clock(&self, seconds: i64) {
        self.partner_clock.with_label_values::<&str>(&[]).set(seconds);
    }

    /// Shows how many requests may leave in a second now (0: no limit); `None`: not known, workers are being counted.
    pub fn set_rate_allowed(&self, per_second: Option<f64>) {
        match per_second {
            Some(per_second) => self.rate_allowed.with_label_values::<&str>(&[]).set(per_second),
            None => self.rate_allowed.reset(),
        }
    }

    pub(super) fn set_connected(&self, connection: BrokerConnection, is_up: bool) {
        self.connected.with_label_values(&[connection.name()]).set(i64::from(is_up));
    }

    /// Whether something that is needed on the broker is missing or different.
    pub fn set_topology_amiss(&self, is_amiss: bool) {
        self.topology_amiss.with_label_values::<&str>(&[]).set(i64::from(is_amiss));
    }

    pub(super) fn set_blocked(&self, connection: BrokerConnection, is_blocked: bool) {
        self.blocked.with_label_values(&[connection.name()]).set(i64::from(is_blocked));
    }

    /// Shows the queue (`None`: it could not be read) and what became of the rows.
    pub fn set_depth(&self, depth: Option<&Depth>, rows: Option<Rows>) {
        for lane in Lane::ALL {
            show(&self.ready, &[lane.name()], depth.map(|depth| depth.ready[lane as usize]));
            show(&self.delayed, &[lane.name()], depth.map(|depth| depth.delayed[lane as usize]));
        }
        show(&self.dead, &[], depth.map(|depth| depth.dead));
        show(&self.unrouted, &[], depth.and_then(|depth| depth.unrouted));
        show(&self.rows, &[], rows.map(|rows| rows.total));
        show(&self.rows_finished, &[], rows.map(|rows| rows.finished));
        match rows {
            Some(rows) => self.difference.with_label_values::<&str>(&[]).set(rows.difference()),
            None => self.difference.reset(),
        }
    }
}

fn show(gauge: &IntGaugeVec, labels: &[&str], value: Option<u64>) {
    match value {
        Some(value) => gauge.with_label_values(labels).set(int(value)),
        // It was never shown, where this is an error.
        None => drop(gauge.remove_label_values(labels)),
    }
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
