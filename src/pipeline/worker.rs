//! The loop that takes jobs from the lanes and keeps a bounded number of them in hand.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::domain::{Lane, Timestamp};
use crate::pipeline::Context;
use crate::pipeline::job::process::process;
use crate::pipeline::rate::lanes::Picker;
use crate::pipeline::rate::rate_limiter::BulkHold;
use crate::pipeline::user_lookup;
use crate::ports::{Delivery, JobSource, PartnerApi, QueueError, Settle, UserList};
use crate::telemetry::{BulkHeld, QueueEmpty};

/// How long nothing must come before the queue is called empty: its answer takes a while.
const EMPTY_AFTER: Duration = Duration::from_secs(1);

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every source is drained and every job settled.
    Drained,
    /// It was told to stop; nothing is in hand any more.
    Stopped,
    /// It was told to stop and requests were still on their way at the deadline; their jobs, with the intent on
    /// record, are on the queue.
    CutOff {
        /// How many.
        jobs: usize,
    },
}

/// Works until the sources are drained or the context's `stop` is cancelled. `signup` goes before `bulk`.
///
/// # Errors
/// The first [`QueueError`]: the queue can't record outcomes any more, so nothing more may be sent.
pub(crate) async fn work<A, S>(context: Arc<Context<A>>, signup: S, bulk: S) -> Result<Ended, QueueError>
where
    A: PartnerApi + UserList,
    S: JobSource,
{
    let scanner = {
        let context = Arc::clone(&context);
        AbortOnDropHandle::new(tokio::spawn(async move { user_lookup::scan_on_demand(&context).await }))
    };
    let mut tasks = JoinSet::new();
    let taken = take_jobs(&context, signup, bulk, &mut tasks).await;
    // Whether it is drained, stopped or broken: no new request leaves from here on.
    context.stop.cancel();
    let finished = timeout(context.policy.shutdown_grace, finish_all(&mut tasks)).await;
    drop(scanner);
    let cut_off = tasks.len();
    tasks.shutdown().await;
    match (taken?, finished) {
        (_, Ok(Err(error))) => Err(error),
        (_, Err(_)) => Ok(Ended::CutOff { jobs: cut_off }),
        (Taken::Drained, Ok(Ok(()))) => Ok(Ended::Drained),
        (Taken::Stopped, Ok(Ok(()))) => Ok(Ended::Stopped),
    }
}

enum Taken {
    Drained,
    Stopped,
}

/// How often it is looked whether bulk is still held.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Nobody is told that bulk is held for less than this: requests on their way may fill a day and create nobody.
const A_MOMENT: Duration = Duration::from_secs(10);

/// While bulk is held, as many jobs as fit into the window are taken and put back in this time: a broker that has handed
/// some out ahead takes them away from a worker that keeps them longer than half an hour.
const TURNED_OVER_IN: Duration = Duration::from_secs(1_200);

/// Who is next, and how much is in hand.
struct Taking {
    window: usize,
    picker: Picker,
    in_flight: usize,
    bulk_in_hand: usize,
    held: Option<BulkHold>,
    is_told: bool,
    turn_over_at: Instant,
}

impl Taking {
    fn has_room(&self) -> bool {
        self.in_flight < self.window
    }

    /// The last quarter of the window is kept for people who sign up.
    fn has_room_for_bulk(&self) -> bool {
        let is_due = self.held.is_none() || self.turn_over_at <= Instant::now();
        self.has_room() && self.bulk_in_hand < (self.window - self.window / 4).max(1) && is_due
    }

    /// When to look again, while bulk is held.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let look_at = now + LOOK_EVERY;
        if self.turn_over_at > now { look_at.min(self.turn_over_at) } else { look_at }
    }

    fn took(&mut self, lane: Lane) {
        self.picker.took(lane);
        self.in_flight += 1;
        if lane == Lane::Bulk {
            self.bulk_in_hand += 1;
            let jobs = u32::try_from(self.window).unwrap_or(u32::MAX).max(1);
            self.turn_over_at = Instant::now() + TURNED_OVER_IN / jobs;
        }
    }

    fn ended(&mut self, lane: Lane) {
        self.in_flight -= 1;
        self.bulk_in_hand -= usize::from(lane == Lane::Bulk);
    }

    /// Looks whether bulk is held, and tells of it where that is for more than a moment.
    fn look(&mut self, held: Option<BulkHold>, now: Timestamp) {
        let will_be_told = match &held {
            None => false,
            Some(held) => self.is_told || held.until().since(now) > A_MOMENT,
        };
        if will_be_told != self.is_told {
            BulkHeld { why: held.as_ref().map(ToString::to_string) }.emit();
            self.is_told = will_be_told;
        }
        if held.is_some() && self.held.is_none() {
            self.turn_over_at = Instant::now() + LOOK_EVERY;
        }
        self.held = held;
    }
}

type Tasks = JoinSet<Result<Lane, QueueError>>;

async fn take_jobs<A, S>(context: &Arc<Context<A>>, signup: S, bulk: S, tasks: &mut Tasks) -> Result<Taken, QueueError>
where
    A: PartnerApi + UserList,
    S: JobSource,
{
    let (mut signup, mut bulk) = (Some(signup), Some(bulk));
    let mut taking = Taking {
        window: context.policy.window,
        picker: Picker::new(context.rate_limiter.bulk_share_percent()),
        in_flight: 0,
        bulk_in_hand: 0,
        held: None,
        is_told: false,
        turn_over_at: Instant::now(),
    };
    let mut is_empty = false;
    while signup.is_some() || bulk.is_some() {
        let now = context.clock.now();
        taking.look(context.rate_limiter.held(now), now);
        // It can be set while the worker runs.
        taking.picker.set_bulk_share(context.rate_limiter.bulk_share_percent());
        let from_signup = signup.as_mut().filter(|_| taking.has_room());
        let from_bulk = bulk.as_mut().filter(|_| taking.has_room_for_bulk());
        let (lane, delivery) = tokio::select! {
            biased;
            () = context.stop.cancelled() => return Ok(Taken::Stopped),
            Some(settled) = tasks.join_next() => {
                taking.ended(outcome(settled)?);
                continue;
            }
            (lane, delivery) = receive(from_signup, from_bulk, taking.picker.first()) => (lane, delivery?),
            () = sleep_until(taking.wake_at()), if taking.held.is_some() => continue,
            () = sleep(EMPTY_AFTER), if taking.in_flight == 0 && !is_empty => {
                // Without the broker nobody knows what is on the queue.
                is_empty = context.metrics.facts.broken_link().is_none();
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
            (Some(delivery), _) => {
                start(context, tasks, delivery);
                taking.took(lane);
            }
            (None, Lane::Signup) => signup = None,
            (None, Lane::Bulk) => bulk = None,
        }
    }
    Ok(Taken::Drained)
}

type Received<S> = Result<Option<Delivery<<S as JobSource>::Handle>>, QueueError>;

/// The next job of either lane, from the first where both have one. Without a source a lane has none. Cancel-safe.
async fn receive<S: JobSource>(signup: Option<&mut S>, bulk: Option<&mut S>, first: Lane) -> (Lane, Received<S>) {
    let signup = async { (Lane::Signup, receive_from(signup).await) };
    let bulk = async { (Lane::Bulk, receive_from(bulk).await) };
    if first == Lane::Signup {
        tokio::select! { biased; signup = signup => signup, bulk = bulk => bulk }
    } else {
        tokio::select! { biased; bulk = bulk => bulk, signup = signup => signup }
    }
}

async fn receive_from<S: JobSource>(source: Option<&mut S>) -> Received<S> {
    match source {
        Some(source) => source.receive().await,
        None => std::future::pending().await,
    }
}

fn start<A, H>(context: &Arc<Context<A>>, tasks: &mut Tasks, delivery: Delivery<H>)
where
    A: PartnerApi + UserList,
    H: Settle,
{
    let context = Arc::clone(context);
    // Boxed before it is spawned: the runtime moves a task a dozen times before and after it runs, and this one has
    // thousands of bytes.
    tasks.spawn(Box::pin(async move {
        let (spans, lane) = (&context.metrics.spans, delivery.lane);
        let now = || context.clock.now();
        let job = spans.begin(delivery.handle.trace(), now);
        let settled = job.work(process(&context, delivery)).await;
        spans.end(&job, lane.name(), now);
        settled.map(|()| lane)
    }));
}

async fn finish_all(tasks: &mut Tasks) -> Result<(), QueueError> {
    while let Some(settled) = tasks.join_next().await {
        outcome(settled)?;
    }
    Ok(())
}

fn outcome(settled: Result<Result<Lane, QueueError>, JoinError>) -> Result<Lane, QueueError> {
    match settled {
        Ok(result) => result,
        Err(error) => Err(QueueError(format!("a job's task ended abnormally ({error}); its job is on the queue"))),
    }
}
