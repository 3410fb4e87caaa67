//! Exports spans to an OpenTelemetry collector: OTLP over HTTP with JSON (feature `otlp`).
//!
//! [`SpanRecorder`] puts each finished span into a bounded channel. One task empties the channel every two seconds and
//! sends the spans with `opentelemetry-otlp`, on the same `reqwest` as the API client. That crate also reads
//! OpenTelemetry's own variables, for example `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_RESOURCE_ATTRIBUTES`.
//!
//! The tracer of the SDK isn't used: the span ids are made by [`SpanRecorder`], which writes them to headers too.
//!
//! **Invariant:** a collector that is slow or unreachable costs spans, never jobs.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::domain::{Timestamp, TraceContext};
use crate::telemetry::trace::{SpanRecorder, TraceSpan, TraceSpanKind};

/// Most spans in the channel, and so in a request.
const SPANS_MAX: usize = 2_048;

/// Time between two exports.
const EXPORT_EVERY: Duration = Duration::from_secs(2);

/// Longest time of an export, and of the last one at the end of the program.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends spans in the background. Dropping it loses the spans that were not sent.
#[derive(Debug)]
pub(crate) struct TraceExporter {
    task: AbortOnDropHandle<()>,
    stop: CancellationToken,
}

impl TraceExporter {
    /// Starts to send the recorded spans to `/v1/traces` below the URL of the collector.
    ///
    /// # Errors
    /// A message if the URL can't be used.
    pub(crate) fn start(collector: &str, service: String, spans: &SpanRecorder, seed: u64) -> Result<Self, String> {
        let url = format!("{}/v1/traces", collector.trim_end_matches('/'));
        if !url.parse::<Url>().is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            return Err("is no http:// or https:// URL".to_owned());
        }
        let client = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(|error| error.to_string())?;
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(url)
            .with_protocol(Protocol::HttpJson)
            .with_timeout(TIMEOUT)
            .build()
            .map_err(|error| error.to_string())?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        exporter.set_resource(&Resource::builder().with_service_name(service).with_attribute(version).build());
        let (sender, recorded) = mpsc::channel(SPANS_MAX);
        spans.record(sender, seed);
        let stop = CancellationToken::new();
        let task = tokio::spawn(export_until_stopped(exporter, recorded, stop.clone()));
        Ok(Self { task: AbortOnDropHandle::new(task), stop })
    }

    /// Sends the spans that are left and ends.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        let _ = timeout(TIMEOUT, self.task).await;
    }
}

async fn export_until_stopped(
    exporter: SpanExporter,
    mut recorded: mpsc::Receiver<TraceSpan>,
    stop: CancellationToken,
) {
    let scope = InstrumentationScope::builder("plu-onboard").build();
    let mut is_failing = false;
    loop {
        let is_stopping = stop.run_until_cancelled(sleep(EXPORT_EVERY)).await.is_none();
        let spans = std::iter::from_fn(|| recorded.try_recv().ok()).take(SPANS_MAX);
        let spans: Vec<SpanData> = spans.map(|span| span_data(span, &scope)).collect();
        if !spans.is_empty() {
            let has_failed = exporter.export(spans).await.is_err();
            if has_failed && !is_failing {
                tracing::warn!("can't send spans to the trace collector: they are dropped until it accepts them");
            }
            is_failing = has_failed;
        }
        if is_stopping {
            return;
        }
    }
}

fn span_data(span: TraceSpan, scope: &InstrumentationScope) -> SpanData {
    let TraceContext { trace, span: id, flags } = span.context;
    let (trace, flags) = (TraceId::from_bytes(trace.to_be_bytes()), TraceFlags::new(flags));
    SpanData {
        span_context: SpanContext::new(trace, span_id(id), flags, false, TraceState::NONE),
        parent_span_id: span.parent.map_or(SpanId::INVALID, span_id),
        // The parent of a job's span is in the upstream, the parent of a request's span is the job's.
        parent_span_is_remote: span.parent.is_some() && span.kind == TraceSpanKind::Consumer,
        span_kind: match span.kind {
            TraceSpanKind::Client => SpanKind::Client,
            TraceSpanKind::Consumer => SpanKind::Consumer,
        },
        name: span.name.into(),
        start_time: system_time(span.start),
        end_time: system_time(span.end),
        attributes: span.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope.clone(),
    }
}

fn span_id(id: u64) -> SpanId {
    SpanId::from_bytes(id.to_be_bytes())
}

fn system_time(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(time.unix_ms().try_into().unwrap_or(0))
}
