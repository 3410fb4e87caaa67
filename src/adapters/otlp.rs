//! Sends spans to a collector: OTLP over HTTP with JSON, in groups, on a task of its own.
//! Source: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>. Written here because the exporter's crates bring a
//! second HTTP client and a protocol buffer compiler for one request.
//!
//! **Invariant:** a collector that is slow or away costs spans, never jobs.

use std::time::Duration;

use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::domain::Timestamp;
use crate::telemetry::trace::{Span, Spans};

/// Most spans that wait to be sent, and most in a group.
const WAITING_MAX: usize = 2_048;
const GROUP_MAX: usize = 512;

/// How long a group gathers.
const GATHER: Duration = Duration::from_secs(2);

/// Longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The exporter. Dropping it loses what wasn't sent.
#[derive(Debug)]
pub(crate) struct Exporter {
    task: AbortOnDropHandle<()>,
    stop: CancellationToken,
}

impl Exporter {
    /// Sends the spans to `/v1/traces` below this URL.
    ///
    /// # Errors
    /// In words, where the URL can't be used.
    pub(crate) fn start(collector: &str, service: String, spans: &Spans, seed: u64) -> Result<Self, String> {
        let unfit = "is no http:// or https:// URL";
        let url = format!("{}/v1/traces", collector.trim_end_matches('/'));
        let url: Url = url.parse().map_err(|_| unfit.to_owned())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(unfit.to_owned());
        }
        let client = Client::builder().timeout(TIMEOUT).build().map_err(|error| error.to_string())?;
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        spans.record(sender, seed);
        let stop = CancellationToken::new();
        let task = tokio::spawn(send_all(client, url, service, waiting, stop.clone()));
        Ok(Self { task: AbortOnDropHandle::new(task), stop })
    }

    /// Sends what is left.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        let _ = timeout(TIMEOUT, self.task).await;
    }
}

async fn send_all(
    client: Client,
    url: Url,
    service: String,
    mut waiting: mpsc::Receiver<Span>,
    stop: CancellationToken,
) {
    let mut is_away = false;
    loop {
        let mut group = Vec::with_capacity(GROUP_MAX);
        let gathering = async {
            while group.len() < GROUP_MAX {
                match waiting.recv().await {
                    Some(span) => group.push(span),
                    None => return,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = timeout(GATHER, gathering) => {}
        }
        while group.len() < GROUP_MAX
            && let Ok(span) = waiting.try_recv()
        {
            group.push(span);
        }
        if group.is_empty() {
            if stop.is_cancelled() {
                return;
            }
            continue;
        }
        let body = traces(&group, &service).to_string();
        let sent = client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body).send().await;
        let failed = !sent.is_ok_and(|answer| answer.status().is_success());
        if failed && !is_away {
            tracing::warn!("the trace collector doesn't take spans; they are dropped until it does");
        }
        is_away = failed;
    }
}

fn traces(spans: &[Span], service: &str) -> Value {
    json!({"resourceSpans": [{
        "resource": {"attributes": [attribute("service.name", service), attribute("service.version", env!("CARGO_PKG_VERSION"))]},
        "scopeSpans": [{
            "scope": {"name": "plu-onboard"},
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]})
}

fn span(span: &Span) -> Value {
    let attributes: Vec<Value> = span.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    let mut json = json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": nanos(span.start),
        "endTimeUnixNano": nanos(span.end),
        "attributes": attributes,
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = format!("{parent:016x}").into();
    }
    json
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// A 64-bit number is text in the JSON of protocol buffers.
fn nanos(time: Timestamp) -> String {
    (i128::from(time.unix_ms()) * 1_000_000).to_string()
}
