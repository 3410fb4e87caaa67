//! Traces: the trace context of a job, and the spans of jobs and requests.
//!
//! Spans are recorded only if the program is built with the feature `otlp` and has the address of a collector.
//! Otherwise a job's own trace context is passed on unchanged.
//!
//! The context is a task-local variable, so that no function between the worker and the HTTP client needs it as an
//! argument.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use crate::domain::{Timestamp, TraceContext};

tokio::task_local! {
    static CURRENT: Option<TraceContext>;
}

/// Trace context of the current task's job.
pub(crate) fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok().flatten()
}

/// A finished span, ready to be exported. Holds no personal data.
#[derive(Debug)]
pub struct TraceSpan {
    /// Ids of the trace and of this span.
    pub context: TraceContext,
    /// Id of the parent span.
    pub parent: Option<u64>,
    /// Name of the operation.
    pub name: &'static str,
    /// Role of the operation.
    pub kind: TraceSpanKind,
    /// Start of the operation.
    pub start: Timestamp,
    /// End of the operation.
    pub end: Timestamp,
    /// Codes and numbers.
    pub attributes: Vec<(&'static str, String)>,
}

/// Role of an operation, one of OpenTelemetry's span kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceSpanKind {
    /// A request that is sent.
    Client,
    /// A message that is processed.
    Consumer,
}

#[derive(Debug)]
struct SpanSender {
    spans: mpsc::Sender<TraceSpan>,
    seed: u64,
    issued: AtomicU64,
}

/// The span of a job in progress.
#[derive(Debug, Clone, Copy)]
pub struct JobSpan {
    parent: Option<TraceContext>,
    recorded: Option<(TraceContext, Timestamp)>,
}

impl JobSpan {
    /// Runs `work` with the job's trace context. Not an `async fn`: that would hold `work`, which is large, twice.
    pub fn work<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.recorded.map(|(context, _)| context).or(self.parent), work)
    }
}

/// Records spans if [`SpanRecorder::record`] was called. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SpanRecorder(Arc<OnceLock<SpanSender>>);

impl SpanRecorder {
    /// Starts recording into the channel. Spans that don't fit are dropped, so that a job never waits. `seed` makes the
    /// span ids and differs for every process.
    pub fn record(&self, spans: mpsc::Sender<TraceSpan>, seed: u64) {
        // Fails if there is a channel already: it is kept.
        let _ = self.0.set(SpanSender { spans, seed, issued: AtomicU64::new(0) });
    }

    /// Starts a job's span, in the trace of its message or in a new one.
    pub fn begin(&self, parent: Option<TraceContext>, now: impl FnOnce() -> Timestamp) -> JobSpan {
        match self.child_context(parent, true) {
            Some(context) => JobSpan { parent, recorded: Some((context, now())) },
            None => JobSpan { parent, recorded: None },
        }
    }

    /// Ends a job's span.
    pub fn end(&self, job: &JobSpan, lane: &'static str, now: impl FnOnce() -> Timestamp) {
        let Some((context, start)) = job.recorded else { return };
        let attributes = vec![("plu_onboard.lane", lane.to_owned())];
        let parent = job.parent.map(|parent| parent.span);
        let (name, kind) = ("onboard", TraceSpanKind::Consumer);
        self.send(TraceSpan { context, parent, name, kind, start, end: now(), attributes });
    }

    /// The trace context for a request of the current task.
    pub fn for_request(&self) -> Option<TraceContext> {
        let current = current()?;
        Some(self.child_context(Some(current), false).unwrap_or(current))
    }

    /// Records the span of a request that ended, with or without an answer.
    pub fn request(&self, context: TraceContext, times: (Timestamp, Timestamp), answer: &str, status: Option<u16>) {
        let Some(parent) = current().filter(|parent| *parent != context) else { return };
        let mut attributes =
            vec![("http.request.method", "POST".to_owned()), ("plu_onboard.answer", answer.to_owned())];
        attributes.extend(status.map(|status| ("http.response.status_code", status.to_string())));
        let (start, end) = times;
        let parent = Some(parent.span);
        let (name, kind) = ("create user", TraceSpanKind::Client);
        self.send(TraceSpan { context, parent, name, kind, start, end, attributes });
    }

    /// The context of a new span; `None` if it isn't recorded. `may_begin`: whether it may start a trace.
    fn child_context(&self, parent: Option<TraceContext>, may_begin: bool) -> Option<TraceContext> {
        let recorder = self.0.get()?;
        let id = || mixed(recorder.seed ^ recorder.issued.fetch_add(1, Ordering::Relaxed)).max(1);
        match parent {
            Some(parent) => parent.is_sampled().then(|| TraceContext { span: id(), ..parent }),
            None if may_begin => {
                Some(TraceContext { trace: u128::from(id()) << 64 | u128::from(id()), span: id(), flags: 1 })
            }
            None => None,
        }
    }

    fn send(&self, span: TraceSpan) {
        if let Some(recorder) = self.0.get() {
            // If the channel is full, the span is dropped.
            let _ = recorder.spans.try_send(span);
        }
    }
}

/// Spreads a counter over all ids. SplitMix64's finaliser is a bijection, so ids don't repeat.
const fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: TraceContext = TraceContext { trace: 7, span: 8, flags: 1 };

    fn now() -> Timestamp {
        Timestamp::from_unix_ms(1)
    }

    async fn within<T>(spans: &SpanRecorder, parent: Option<TraceContext>, work: impl Future<Output = T>) -> T {
        let span = spans.begin(parent, now);
        let result = span.work(work).await;
        spans.end(&span, "bulk", now);
        result
    }

    #[tokio::test]
    async fn without_a_recorder_the_context_is_passed_on_unchanged() {
        let spans = SpanRecorder::default();
        let passed_on = within(&spans, Some(PARENT), async { (current(), spans.for_request()) }).await;
        assert_eq!(passed_on, (Some(PARENT), Some(PARENT)));
        assert_eq!(within(&spans, None, async { spans.for_request() }).await, None);
    }

    #[tokio::test]
    async fn the_request_is_a_child_of_the_job_and_the_job_of_its_caller() {
        let (spans, (sender, mut sent)) = (SpanRecorder::default(), mpsc::channel(8));
        spans.record(sender, 1);
        within(&spans, Some(PARENT), async {
            let context = spans.for_request().unwrap();
            spans.request(context, (now(), now()), "created", Some(201));
        })
        .await;
        let (request, job) = (sent.recv().await.unwrap(), sent.recv().await.unwrap());
        assert_eq!((job.parent, request.parent), (Some(PARENT.span), Some(job.context.span)));
        assert_eq!([job.context.trace, request.context.trace], [PARENT.trace; 2]);
        // A trace that isn't sampled isn't recorded. A job without a trace starts one.
        within(&spans, Some(TraceContext { flags: 0, ..PARENT }), async {}).await;
        within(&spans, None, async {}).await;
        let own = sent.recv().await.unwrap();
        assert!(own.parent.is_none() && own.context.is_sampled());
        assert!(sent.try_recv().is_err());
    }
}
