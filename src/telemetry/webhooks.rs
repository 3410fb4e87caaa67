//! Events and metrics of the webhook receiver. They have a registry of their own: the receiver is not a worker, so
//! alerts about workers must not find their metrics here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::{Encoder, IntCounterVec, IntGauge, Registry, TextEncoder};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::domain::KycType;
use crate::telemetry::registrar::MetricRegistrar;

/// Every metric of a webhook receiver. Clones share them.
#[derive(Debug, Clone)]
pub struct WebhookMetrics {
    registry: Registry,
    received: IntCounterVec,
    ready: IntGauge,
    /// Whether an unsigned or incomplete webhook was logged since the last valid one.
    is_refusal_logged: Arc<AtomicBool>,
}

impl WebhookMetrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// Only if two metrics have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let register = MetricRegistrar(&registry);
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let build = register.gauges(
            "plu_onboard_build_info",
            "Always 1; the labels are the version and the command.",
            &["version", "command"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), "webhooks"]).set(1);
        let received =
            register.counters("plu_onboard_webhooks_received_total", "Webhooks received, by result.", &["result"])?;
        let ready = register.int_gauge("plu_onboard_webhooks_ready", "1 while events can be recorded.")?;
        // Prometheus computes no rate for a counter that appears with 1.
        for result in WebhookResult::ALL {
            received.with_label_values(&[result.name()]).inc_by(0);
        }
        Ok(Self { registry, received, ready, is_refusal_logged: Arc::default() })
    }

    /// All metrics in Prometheus' text format. `is_ready`: whether events can be recorded now.
    pub fn render(&self, is_ready: bool) -> String {
        self.ready.set(i64::from(is_ready));
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookResult {
    /// Its event was recorded.
    Published(KycType),
    /// It doesn't report the end of a verification.
    Ignored,
    /// It reports a verification status that isn't documented.
    UnknownStatus,
    /// It has no signature, or one that isn't made with the configured secret.
    Unsigned,
    /// It can't be parsed.
    Malformed,
    /// It is too long or did not arrive in time.
    Incomplete,
    /// Its event could not be recorded in time. If the event is recorded later, the webhook counts again.
    NotPublished,
}

impl WebhookResult {
    const ALL: [Self; 9] = [
        Self::Published(KycType::Approved),
        Self::Published(KycType::Denied),
        Self::Published(KycType::NeedsVerification),
        Self::Ignored,
        Self::UnknownStatus,
        Self::Unsigned,
        Self::Malformed,
        Self::Incomplete,
        Self::NotPublished,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Published(KycType::Approved) => "approved",
            Self::Published(KycType::Denied) => "denied",
            Self::Published(KycType::NeedsVerification) => "needs_verification",
            Self::Ignored => "ignored",
            Self::UnknownStatus => "unknown_status",
            Self::Unsigned => "unsigned",
            Self::Malformed => "malformed",
            Self::Incomplete => "incomplete",
            Self::NotPublished => "not_published",
        }
    }
}

#[derive(Debug)]
pub struct WebhookReceived<'a> {
    pub result: WebhookResult,
    /// Id of the event, if there is one.
    pub event: Option<Uuid>,
    /// What is wrong with it, in this program's words.
    pub why: Option<&'a str>,
}

impl WebhookReceived<'_> {
    pub fn emit(&self, metrics: &WebhookMetrics) {
        let Self { result, event, why } = self;
        metrics.received.with_label_values(&[result.name()]).inc();
        let (id, why) = (event.map(|id| id.to_string()).unwrap_or_default(), why.unwrap_or_default());
        match result {
            WebhookResult::Published(kind) => {
                metrics.is_refusal_logged.store(false, Ordering::Relaxed);
                info!(event = %kind.name(), id, "webhook: verification ended, event recorded");
            }
            WebhookResult::Ignored => info!("webhook ignored: it doesn't report the end of a verification"),
            WebhookResult::UnknownStatus => warn!(
                "webhook not published: its verification status is unknown to this version; look it up in Plu's \
                 documentation, and the user in the user list"
            ),
            // Any sender can cause these: logged once, until the next valid webhook.
            WebhookResult::Unsigned | WebhookResult::Incomplete
                if metrics.is_refusal_logged.swap(true, Ordering::Relaxed) =>
            {
                debug!(why, "webhook refused");
            }
            WebhookResult::Unsigned => warn!(
                why,
                "webhook refused (logged once until a valid one comes): if Plu sent it, correct the secret, \
                 webhooks.signature_header or webhooks.signature_encoding"
            ),
            WebhookResult::Malformed | WebhookResult::Incomplete => warn!(why, "webhook can't be read"),
            WebhookResult::NotPublished => {
                warn!(id, why, "webhook event not recorded: answered 503, so that Plu sends it again");
            }
        }
    }
}
