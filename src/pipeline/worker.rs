//! Worker: takes jobs from both lanes, and keeps a bounded number of them in progress.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::domain::Lane;
use crate::pipeline::context::Context;
use crate::pipeline::job::process;
use crate::pipeline::job_slot::{JobSlot, SharedWindow};
use crate::pipeline::read_probe::probe_by_reading;
use crate::pipeline::user_lookup::scan_on_demand;
use crate::pipeline::window::{HoldChange, JobWindow};
use crate::ports::{Delivery, JobSource, PartnerApi, QueueError, Settle, UserList};
use crate::telemetry::{BulkHoldChanged, QueueEmpty};

/// The queue is reported as empty when no job came for this long. A broker takes a while to answer.
const EMPTY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerEnd {
    /// The queue is empty and every job is settled.
    Drained,
    /// It was stopped, and no job is in progress.
    Stopped,
    /// It was stopped, and requests were still in flight at the end of the shutdown grace. Their jobs are on the queue,
    /// with the recorded intent.
    CutOff {
        /// Number of these jobs.
        jobs: usize,
    },
}

/// Works until both sources end or the context's `stop` is cancelled. `signup` goes before `bulk`.
///
/// # Errors
/// The first [`QueueError`]: the queue can't record outcomes, so no more requests may be sent.
pub(crate) async fn work<A, S>(context: Arc<Context<A>>, signup: S, bulk: S) -> Result<WorkerEnd, QueueError>
where
    A: PartnerApi + UserList,
    S: JobSource,
{
    let scanner = {
        let context = Arc::clone(&context);
        AbortOnDropHandle::new(tokio::spawn(async move { scan_on_demand(&context).await }))
    };
    let prober = {
        let context = Arc::clone(&context);
        AbortOnDropHandle::new(tokio::spawn(async move { probe_by_reading(&context).await }))
    };
    let mut tasks = JoinSet::new();
    let taken = take_jobs(&context, signup, bulk, &mut tasks).await;
    // From here on no new request is sent, after an error too.
    context.stop.cancel();
    let finished = timeout(context.policy.shutdown_grace, finish_all(&mut tasks)).await;
    drop((scanner, prober));
    let cut_off = tasks.len();
    tasks.shutdown().await;
    match (taken?, finished) {
        (_, Ok(Err(error))) => Err(error),
        (_, Err(_)) => Ok(WorkerEnd::CutOff { jobs: cut_off }),
        (TakingEnd::Drained, Ok(Ok(()))) => Ok(WorkerEnd::Drained),
        (TakingEnd::Stopped, Ok(Ok(()))) => Ok(WorkerEnd::Stopped),
    }
}

/// Why no more jobs are taken.
enum TakingEnd {
    Drained,
    Stopped,
}

type JobTasks = JoinSet<Result<(), QueueError>>;

async fn take_jobs<A, S>(
    context: &Arc<Context<A>>,
    signup: S,
    bulk: S,
    tasks: &mut JobTasks,
) -> Result<TakingEnd, QueueError>
where
    A: PartnerApi + UserList,
    S: JobSource,
{
    let (mut signup, mut bulk) = (Some(signup), Some(bulk));
    let bulk_share_percent = context.rate_limiter.bulk_share_percent();
    let window = SharedWindow::new(JobWindow::new(context.policy.window, bulk_share_percent, Instant::now()));
    let mut is_empty = false;
    while signup.is_some() || bulk.is_some() {
        let now = Instant::now();
        let Receivable { first_lane, has_room, check_at, is_idle } =
            window.with(|window| Receivable::now(context, window, now));
        let from_signup = signup.as_mut().filter(|_| has_room[Lane::Signup as usize]);
        let from_bulk = bulk.as_mut().filter(|_| has_room[Lane::Bulk as usize]);
        let (lane, delivery) = tokio::select! {
            biased;
            () = context.stop.cancelled() => return Ok(TakingEnd::Stopped),
            Some(settled) = tasks.join_next() => {
                job_end(settled)?;
                continue;
            }
            () = window.has_room() => continue,
            (lane, delivery) = receive(from_signup, from_bulk, first_lane) => (lane, delivery?),
            () = sleep_until(check_at.unwrap_or(now)), if check_at.is_some() => continue,
            () = sleep(EMPTY_AFTER), if is_idle && !is_empty => {
                // Without a connection to the broker, it isn't known whether the queue is empty.
                is_empty = context.metrics.health.broken_connection().is_none();
                if is_empty {
                    QueueEmpty(true).emit(&context.metrics);
                }
                continue;
            }
        };
        if std::mem::take(&mut is_empty) {
            QueueEmpty(false).emit(&context.metrics);
        }
        match (delivery, lane) {
            (Some(delivery), _) => start(context, tasks, delivery, window.add(lane)),
            (None, Lane::Signup) => signup = None,
            (None, Lane::Bulk) => bulk = None,
        }
    }
    Ok(TakingEnd::Drained)
}

/// What may be taken now.
struct Receivable {
    first_lane: Lane,
    /// By lane.
    has_room: [bool; 2],
    /// When to check again.
    check_at: Option<Instant>,
    /// The worker holds no job.
    is_idle: bool,
}

impl Receivable {
    /// Applies to the window what may have changed while the worker runs (bulk's share, and whether bulk is held), and
    /// returns what may be taken.
    fn now<A>(context: &Context<A>, window: &mut JobWindow, now: Instant) -> Self {
        window.set_bulk_share(context.rate_limiter.bulk_share_percent());
        let time = context.clock.now();
        match window.set_bulk_hold(context.rate_limiter.bulk_hold(time), time, now) {
            HoldChange::Unchanged => {}
            HoldChange::Held(hold) => BulkHoldChanged { why: Some(hold.to_string()) }.emit(),
            HoldChange::Released => BulkHoldChanged { why: None }.emit(),
        }
        Self {
            first_lane: window.first_lane(),
            has_room: Lane::ALL.map(|lane| window.has_room(lane, now)),
            check_at: window.check_at(now),
            is_idle: window.is_empty(),
        }
    }
}

type ReceivedDelivery<S> = Result<Option<Delivery<<S as JobSource>::Handle>>, QueueError>;

/// Receives the next job of either lane, from `first` if both have one. A lane without a source has none. Cancel-safe.
async fn receive<S: JobSource>(
    signup: Option<&mut S>,
    bulk: Option<&mut S>,
    first: Lane,
) -> (Lane, ReceivedDelivery<S>) {
    let signup = async { (Lane::Signup, receive_from(signup).await) };
    let bulk = async { (Lane::Bulk, receive_from(bulk).await) };
    if first == Lane::Signup {
        tokio::select! { biased; signup = signup => signup, bulk = bulk => bulk }
    } else {
        tokio::select! { biased; bulk = bulk => bulk, signup = signup => signup }
    }
}

async fn receive_from<S: JobSource>(source: Option<&mut S>) -> ReceivedDelivery<S> {
    match source {
        Some(source) => source.receive().await,
        None => std::future::pending().await,
    }
}

fn start<A, H>(context: &Arc<Context<A>>, tasks: &mut JobTasks, delivery: Delivery<H>, mut slot: JobSlot)
where
    A: PartnerApi + UserList,
    H: Settle,
{
    let context = Arc::clone(context);
    // Boxed before it is spawned: the runtime moves a task a dozen times, and this one has thousands of bytes.
    tasks.spawn(Box::pin(async move {
        let (spans, lane) = (&context.metrics.spans, delivery.lane);
        let now = || context.clock.now();
        let job = spans.begin(delivery.handle.trace(), now);
        let settled = job.work(process(&context, delivery, &mut slot)).await;
        spans.end(&job, lane.name(), now);
        settled
    }));
}

/// Waits for every job, after an error too: the answers that are still in flight have links. Returns the first error.
async fn finish_all(tasks: &mut JobTasks) -> Result<(), QueueError> {
    let mut result = Ok(());
    while let Some(settled) = tasks.join_next().await {
        result = result.and(job_end(settled));
    }
    result
}

fn job_end(settled: Result<Result<(), QueueError>, JoinError>) -> Result<(), QueueError> {
    match settled {
        Ok(result) => result,
        Err(error) => Err(QueueError(format!("the task of a job ended abnormally ({error}); the job is on the queue"))),
    }
}
