//! The loop that takes jobs from the lanes and keeps a bounded number of them in hand.

use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::process::process;
use super::{Context, look_up};
use crate::ports::{Delivery, JobSource, PartnerApi, QueueError, UserList};

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
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
pub async fn work<A, S>(context: Arc<Context<A>>, signup: S, bulk: S) -> Result<Ended, QueueError>
where
    A: PartnerApi + UserList,
    S: JobSource,
{
    let sweeper = {
        let context = Arc::clone(&context);
        tokio::spawn(async move { look_up::sweep_on_demand(&context).await })
    };
    let mut tasks = JoinSet::new();
    let taken = take_jobs(&context, signup, bulk, &mut tasks).await;
    // Whether it is drained, stopped or broken: no new request leaves from here on.
    context.stop.cancel();
    let finished = timeout(context.policy.shutdown_grace, finish_all(&mut tasks)).await;
    sweeper.abort();
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

async fn take_jobs<A, S>(
    context: &Arc<Context<A>>,
    signup: S,
    bulk: S,
    tasks: &mut JoinSet<Result<(), QueueError>>,
) -> Result<Taken, QueueError>
where
    A: PartnerApi + UserList,
    S: JobSource,
{
    let (mut signup, mut bulk) = (Some(signup), Some(bulk));
    while signup.is_some() || bulk.is_some() {
        let has_room = tasks.len() < context.policy.window;
        // The last quarter of the window is kept for people who sign up.
        let has_room_for_bulk = tasks.len() < (context.policy.window - context.policy.window / 4).max(1);
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return Ok(Taken::Stopped),
            Some(settled) = tasks.join_next() => outcome(settled)?,
            delivery = receive(&mut signup), if has_room && signup.is_some() => start(context, tasks, &mut signup, delivery?),
            delivery = receive(&mut bulk), if has_room_for_bulk && bulk.is_some() => start(context, tasks, &mut bulk, delivery?),
        }
        context.metrics.in_flight.set(i64::try_from(tasks.len()).unwrap_or(i64::MAX));
    }
    Ok(Taken::Drained)
}

async fn receive<S: JobSource>(source: &mut Option<S>) -> Result<Option<Delivery<S::Handle>>, QueueError> {
    match source {
        Some(source) => source.receive().await,
        None => Ok(None),
    }
}

fn start<A, S>(
    context: &Arc<Context<A>>,
    tasks: &mut JoinSet<Result<(), QueueError>>,
    source: &mut Option<S>,
    delivery: Option<Delivery<S::Handle>>,
) where
    A: PartnerApi + UserList,
    S: JobSource,
{
    match delivery {
        Some(delivery) => {
            let context = Arc::clone(context);
            tasks.spawn(async move { process(&context, delivery).await });
        }
        None => *source = None,
    }
}

async fn finish_all(tasks: &mut JoinSet<Result<(), QueueError>>) -> Result<(), QueueError> {
    while let Some(settled) = tasks.join_next().await {
        outcome(settled)?;
    }
    Ok(())
}

fn outcome(settled: Result<Result<(), QueueError>, JoinError>) -> Result<(), QueueError> {
    match settled {
        Ok(result) => result,
        Err(error) => Err(QueueError(format!("a job's task ended abnormally ({error}); its job is on the queue"))),
    }
}
