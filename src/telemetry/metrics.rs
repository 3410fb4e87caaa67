//! The Prometheus metrics. Label sets are closed: every value comes from an enum of this crate.

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::domain::{EventType, Lane};

/// Every metric of a worker, in a registry of its own.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    pub(super) completed: IntCounterVec,
    pub(super) requests: IntCounterVec,
    pub(super) request_duration: Histogram,
    pub(super) retries: IntCounterVec,
    pub(super) paused: IntCounterVec,
    pub(super) sweeps: IntCounterVec,
    /// Jobs in hand.
    pub in_flight: IntGauge,
}

/// From a fast answer on loopback to the default time limit of a request.
const DURATION_BUCKETS_S: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Only where two metrics have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let completed = counters(
            "plu_onboard_jobs_completed_total",
            "Jobs that ended, by outcome and lane.",
            &["outcome", "lane"],
        )?;
        for event_type in EventType::ALL {
            for lane in Lane::ALL {
                completed.with_label_values(&[event_type.short(), lane.name()]);
            }
        }
        let requests = counters(
            "plu_onboard_api_requests_total",
            "Requests to the partner API, by endpoint and class of the answer.",
            &["endpoint", "answer"],
        )?;
        let retries =
            counters("plu_onboard_retries_total", "Repetitions that were scheduled, by reason.", &["reason"])?;
        let paused = counters("plu_onboard_pauses_total", "How often the worker paused, by reason.", &["reason"])?;
        let sweeps =
            counters("plu_onboard_look_up_sweeps_total", "Sweeps of the partner's user list, by result.", &["result"])?;
        let request_duration = Histogram::with_opts(
            HistogramOpts::new(
                "plu_onboard_api_request_duration_seconds",
                "Time from sending a creation to its answer or its loss.",
            )
            .buckets(DURATION_BUCKETS_S.to_vec()),
        )?;
        registry.register(Box::new(request_duration.clone()))?;
        let in_flight = IntGauge::new("plu_onboard_jobs_in_flight", "Jobs in hand.")?;
        registry.register(Box::new(in_flight.clone()))?;
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Self { registry, completed, requests, request_duration, retries, paused, sweeps, in_flight })
    }

    /// How many jobs ended like this, over both lanes.
    pub fn completed(&self, event_type: EventType) -> u64 {
        Lane::ALL.map(|lane| self.completed.with_label_values(&[event_type.short(), lane.name()]).get()).iter().sum()
    }

    /// The text exposition format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory fails only for an empty metric family, and none is registered.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}
