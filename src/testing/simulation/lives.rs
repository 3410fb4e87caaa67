//! The lives of the workers: a worker dies, is stopped or fails, and restarts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::domain::Lane;
use crate::pipeline::worker::{WorkerEnd, work};
use crate::testing::faulty::{LifeFaults, ProcessLife};
use crate::testing::simulation::world::SimWorld;

/// Lives of one worker that may die or be stopped.
const EVENTFUL_LIVES_MAX: u32 = 6;

/// Longest time from the end of a life to the next one.
const RESTART_MS_MAX: u64 = 20_000;

enum LifeEnd {
    /// It died at this step.
    Died(&'static str),
    Worker(WorkerEnd),
    /// A step of the queue failed.
    QueueFailed,
}

impl LifeEnd {
    fn describe(&self) -> String {
        match self {
            Self::Died(step) => format!("died {step}"),
            Self::Worker(WorkerEnd::Stopped) => "stopped".to_owned(),
            Self::Worker(WorkerEnd::CutOff { jobs }) => format!("cut off {jobs}"),
            Self::Worker(WorkerEnd::Drained) => "drained".to_owned(),
            Self::QueueFailed => "queue failed".to_owned(),
        }
    }
}

/// Runs one worker, life after life, until every job is finished. Returns the number of lives.
pub(super) async fn run_worker(world: Arc<SimWorld>, worker: u32) -> u32 {
    let plan = &world.plan;
    let mut rng = fastrand::Rng::with_seed(plan.seed.wrapping_mul(31).wrapping_add(u64::from(worker)));
    let mut count = 0;
    while !world.over.is_cancelled() {
        count += 1;
        let is_eventful = count <= EVENTFUL_LIVES_MAX && !world.calm.is_cancelled();
        let dies = is_eventful && rng.f64() < plan.deaths;
        let faults = LifeFaults {
            seed: rng.u64(..),
            dies_at_step: dies.then(|| rng.u64(1..120)),
            delays: plan.delays,
            delay_max: Duration::from_millis(rng.u64(1..2_000)),
            queue_errors: if is_eventful { plan.queue_errors } else { 0.0 },
        };
        let stops_after = (is_eventful && rng.f64() < plan.stops).then(|| Duration::from_millis(rng.u64(1..40_000)));
        world.record.note(format_args!("worker {worker} begins life {count}"));
        let end = live(&world, worker, faults, stops_after).await;
        // After a graceful end there are none.
        let in_progress = world.queue.crash_of(worker);
        world.record.note(format_args!("worker {worker} {}, {} in progress", end.describe(), in_progress.len()));
        world.mark(&in_progress, if matches!(end, LifeEnd::QueueFailed) { "queue-error" } else { "death" });
        if !world.over.is_cancelled() {
            sleep(Duration::from_millis(rng.u64(1..RESTART_MS_MAX))).await;
        }
    }
    count
}

async fn live(world: &SimWorld, worker: u32, faults: LifeFaults, stops_after: Option<Duration>) -> LifeEnd {
    let (life, stop) = (ProcessLife::new(faults), CancellationToken::new());
    let working = work(
        world.context(worker, &life, stop.clone()),
        world.source(worker, Lane::Signup, &life),
        world.source(worker, Lane::Bulk, &life),
    );
    let end = tokio::select! {
        biased;
        step = life.death() => LifeEnd::Died(step),
        ended = working => ended.map_or(LifeEnd::QueueFailed, LifeEnd::Worker),
        () = stop_worker(world, &life, &stop, stops_after) => unreachable!("it never ends"),
    };
    // Its tasks that are still there do nothing any more.
    life.kill();
    end
}

/// Stops a worker when the run is over, or after this time. Calms its life when nothing goes wrong any more.
/// Never ends.
async fn stop_worker(world: &SimWorld, life: &ProcessLife, stop: &CancellationToken, stops_after: Option<Duration>) {
    let planned = async {
        match stops_after {
            Some(after) => sleep(after).await,
            None => std::future::pending().await,
        }
    };
    let calm = async {
        world.calm.cancelled().await;
        life.calm();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = world.over.cancelled() => {}
        () = planned => {}
        () = calm => {}
    }
    stop.cancel();
    std::future::pending::<()>().await;
}
