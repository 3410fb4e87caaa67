//! Traces: the context that travels with a job, and the spans that are recorded where somebody wants them.
//!
//! Nobody records unless the program was built with the feature `otlp` and told where to send spans; then a job's own
//! context is passed on unchanged. Which trace a task works for is known to the task, as trace contexts commonly are:
//! no signature on the way has to carry it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use crate::domain::{Timestamp, TraceContext};

tokio::task_local! {
    static CURRENT: Option<TraceContext>;
}

/// What the task works for, as it is to be passed on.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok().flatten()
}

/// Work that was done, ready to be sent. Holds nothing about anybody.
#[derive(Debug)]
pub struct Span {
    /// Its own place in the trace.
    pub context: TraceContext,
    /// The span that it is a part of.
    pub parent: Option<u64>,
    /// What was done.
    pub name: &'static str,
    /// OTLP's number: 3 client, 5 consumer.
    pub kind: u8,
    /// From then.
    pub start: Timestamp,
    /// Until then.
    pub end: Timestamp,
    /// Codes and numbers.
    pub attributes: Vec<(&'static str, String)>,
}

/// OTLP's number of a request that is sent.
const CLIENT: u8 = 3;
/// OTLP's number of a message that is worked on.
const CONSUMER: u8 = 5;

#[derive(Debug)]
struct Recorder {
    spans: mpsc::Sender<Span>,
    seed: u64,
    issued: AtomicU64,
}

/// A job's part of a trace.
#[derive(Debug, Clone, Copy)]
pub struct JobSpan {
    parent: Option<TraceContext>,
    recorded: Option<(TraceContext, Timestamp)>,
}

impl JobSpan {
    /// Works within it. Not an `async fn`: that would hold `work` twice, which is large.
    pub fn work<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.recorded.map(|(context, _)| context).or(self.parent), work)
    }
}

/// Where spans go, if anywhere. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Spans(Arc<OnceLock<Recorder>>);

impl Spans {
    /// From now on spans are recorded. What doesn't fit into the channel is dropped: the work never waits. `seed`: of the
    /// ids, another for every process.
    pub fn record(&self, spans: mpsc::Sender<Span>, seed: u64) {
        // A second recorder is not needed by anybody.
        let _ = self.0.set(Recorder { spans, seed, issued: AtomicU64::new(0) });
    }

    /// A job begins, in the trace that it came with or in one of its own.
    pub fn begin(&self, parent: Option<TraceContext>, now: impl FnOnce() -> Timestamp) -> JobSpan {
        match self.part_of(parent, true) {
            Some(context) => JobSpan { parent, recorded: Some((context, now())) },
            None => JobSpan { parent, recorded: None },
        }
    }

    /// The job has ended.
    pub fn end(&self, job: &JobSpan, lane: &'static str, now: impl FnOnce() -> Timestamp) {
        let Some((context, start)) = job.recorded else { return };
        let attributes = vec![("plu_onboard.lane", lane.to_owned())];
        let parent = job.parent.map(|parent| parent.span);
        self.send(Span { context, parent, name: "onboard", kind: CONSUMER, start, end: now(), attributes });
    }

    /// The context that a request of this task carries.
    pub fn for_request(&self) -> Option<TraceContext> {
        let current = current()?;
        Some(self.part_of(Some(current), false).unwrap_or(current))
    }

    /// A request was answered, or not.
    pub fn request(&self, context: TraceContext, times: (Timestamp, Timestamp), answer: &str, status: Option<u16>) {
        let Some(parent) = current().filter(|parent| *parent != context) else { return };
        let mut attributes =
            vec![("http.request.method", "POST".to_owned()), ("plu_onboard.answer", answer.to_owned())];
        attributes.extend(status.map(|status| ("http.response.status_code", status.to_string())));
        let (start, end) = times;
        let parent = Some(parent.span);
        self.send(Span { context, parent, name: "create user", kind: CLIENT, start, end, attributes });
    }

    /// A new span's context; `None`: nobody records it.
    fn part_of(&self, parent: Option<TraceContext>, may_begin: bool) -> Option<TraceContext> {
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

    fn send(&self, span: Span) {
        if let Some(recorder) = self.0.get() {
            // Full: a trace with a gap is better than a job that waits.
            let _ = recorder.spans.try_send(span);
        }
    }
}

/// Spreads a counter over all ids (SplitMix64's finaliser: one to one).
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

    async fn within<T>(spans: &Spans, parent: Option<TraceContext>, work: impl Future<Output = T>) -> T {
        let span = spans.begin(parent, now);
        let result = span.work(work).await;
        spans.end(&span, "bulk", now);
        result
    }

    #[tokio::test]
    async fn unrecorded_a_jobs_own_context_is_passed_on_unchanged() {
        let spans = Spans::default();
        let passed_on = within(&spans, Some(PARENT), async { (current(), spans.for_request()) }).await;
        assert_eq!(passed_on, (Some(PARENT), Some(PARENT)));
        assert_eq!(within(&spans, None, async { spans.for_request() }).await, None);
    }

    #[tokio::test]
    async fn recorded_the_request_is_a_part_of_the_job_and_the_job_of_its_caller() {
        let (spans, (sender, mut sent)) = (Spans::default(), mpsc::channel(8));
        spans.record(sender, 1);
        within(&spans, Some(PARENT), async {
            let context = spans.for_request().unwrap();
            spans.request(context, (now(), now()), "created", Some(201));
        })
        .await;
        let (request, job) = (sent.recv().await.unwrap(), sent.recv().await.unwrap());
        assert_eq!((job.parent, request.parent), (Some(PARENT.span), Some(job.context.span)));
        assert_eq!([job.context.trace, request.context.trace], [PARENT.trace; 2]);
        // What nobody samples isn't recorded, and what began nowhere begins here.
        within(&spans, Some(TraceContext { flags: 0, ..PARENT }), async {}).await;
        within(&spans, None, async {}).await;
        let own = sent.recv().await.unwrap();
        assert!(own.parent.is_none() && own.context.is_sampled());
        assert!(sent.try_recv().is_err());
    }
}
