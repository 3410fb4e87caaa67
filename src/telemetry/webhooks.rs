//! What is told about webhooks: in a registry of its own, because a receiver of webhooks is no worker, and what is alerted on of
//! workers must not be read from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::{Encoder, IntCounterVec, IntGauge, Registry, TextEncoder};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::domain::KycType;
use crate::telemetry::register::Register;

/// Every metric of a receiver. Clones share them.
#[derive(Debug, Clone)]
pub struct WebhookMetrics {
    registry: Registry,
    received: IntCounterVec,
    ready: IntGauge,
    /// Whether the last webhook that was signed at all had a wrong signature.
    mistrusts: Arc<AtomicBool>,
}

impl WebhookMetrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Only where two metrics have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let register = Register(&registry);
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let build = register.gauges(
            "plu_onboard_build_info",
            "1; its labels tell the version and the command.",
            &["version", "command"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), "webhooks"]).set(1);
        let received = register.counters(
            "plu_onboard_webhooks_received_total",
            "Webhooks, by what became of them.",
            &["result"],
        )?;
        let ready =
            register.int_gauge("plu_onboard_webhooks_ready", "1 while events can be recorded, as far as is known.")?;
        // An alert on a rate needs the zero before the first one.
        for result in WebhookResult::ALL {
            received.with_label_values(&[result.name()]).inc_by(0);
        }
        Ok(Self { registry, received, ready, mistrusts: Arc::default() })
    }

    /// The text exposition. `is_ready`: as it is now.
    pub fn render(&self, is_ready: bool) -> String {
        self.ready.set(i64::from(is_ready));
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_default()
    }
}

/// What became of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookResult {
    /// It is an event now.
    Published(KycType),
    /// It ends no verification.
    Ignored,
    /// It is about a verification, with a status that isn't documented.
    UnknownStatus,
    /// It isn't signed, or not with our secret.
    Unsigned,
    /// It can't be read.
    Malformed,
    /// It is longer than it may be, or didn't come in time.
    Incomplete,
    /// Its event couldn't be recorded in time. One that could be later counts again.
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

/// A webhook came.
#[derive(Debug)]
pub struct WebhookReceived<'a> {
    /// What became of it.
    pub result: WebhookResult,
    /// The event's id, where there is one.
    pub event: Option<Uuid>,
    /// What was wrong, in this program's words.
    pub why: Option<&'a str>,
}

impl WebhookReceived<'_> {
    /// Log line and metric.
    pub fn emit(&self, metrics: &WebhookMetrics) {
        let Self { result, event, why } = self;
        metrics.received.with_label_values(&[result.name()]).inc();
        let (id, why) = (event.map(|id| id.to_string()).unwrap_or_default(), why.unwrap_or_default());
        match result {
            WebhookResult::Published(kind) => {
                metrics.mistrusts.store(false, Ordering::Relaxed);
                info!(event = %kind.name(), id, "a verification has ended: event recorded");
            }
            WebhookResult::Ignored => info!("a webhook that ends no verification: ignored"),
            WebhookResult::UnknownStatus => warn!(
                "a webhook about a verification has a status that this version doesn't know: nobody is told of it; look at the partner's \
                 pages, and at the user list for how it ended"
            ),
            // Anybody can send these: told once, until one is right again.
            WebhookResult::Unsigned | WebhookResult::Incomplete if metrics.mistrusts.swap(true, Ordering::Relaxed) => {
                debug!(why, "a webhook is refused")
            }
            WebhookResult::Unsigned => warn!(
                why,
                "a webhook is refused, and those that follow like it without a line: if it is the partner's, mend the secret or \
                 webhooks.signature_header and webhooks.signature_encoding"
            ),
            WebhookResult::Malformed | WebhookResult::Incomplete => warn!(why, "a webhook can't be used"),
            WebhookResult::NotPublished => {
                warn!(id, why, "an event couldn't be recorded: the partner was told to send it again");
            }
        }
    }
}
