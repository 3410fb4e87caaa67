//! One run of a plan, from the first job to the last outcome.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::{Overrides, Settings};
use crate::sandbox::{SandboxControl, UserChange};
use crate::testing::simulation::coverage::NO_FAULT;
use crate::testing::simulation::evidence::RunEvidence;
use crate::testing::simulation::lives::run_worker;
use crate::testing::simulation::plan::Plan;
use crate::testing::simulation::promises;
use crate::testing::simulation::record::RunRecord;
use crate::testing::simulation::world::SimWorld;

/// When nothing goes wrong any more, every job must be finished after this time.
const FINISH_MAX: Duration = Duration::from_secs(4 * 3_600);

/// How often to check whether every job is finished.
const CHECK_EVERY: Duration = Duration::from_secs(20);

/// The default settings. Read once, because that takes longer than a run.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

#[derive(Debug)]
pub struct SimulationRun {
    pub plan: Plan,
    /// Broken promises, in words.
    pub broken: Vec<String>,
    /// Pairs of a fault that a job had met and a decision that followed.
    pub met: Vec<(&'static str, &'static str)>,
    /// Digest of everything that happened: the same for the same seed.
    pub digest: u64,
    /// What happened, if the run is verbose.
    pub lines: Vec<String>,
    pub lives: u32,
    pub simulated: Duration,
}

/// Runs the plan of a seed. Needs a current-thread runtime with paused time.
pub async fn simulate(seed: u64, is_verbose: bool) -> SimulationRun {
    let settings = SETTINGS.get_or_init(|| {
        Settings::load(None, std::iter::empty(), &Overrides::default())
            .unwrap_or_else(|error| unreachable!("the default settings are valid: {error}"))
    });
    let plan = Plan::new(seed, settings.policy(seed));
    let world = Arc::new(SimWorld::new(plan, settings, RunRecord::new(is_verbose)));
    let _subscriber = tracing::subscriber::set_default(world.record.clone());
    world.mark_conditions();
    let workers: Vec<_> = (0..world.plan.workers).map(|n| tokio::spawn(run_worker(Arc::clone(&world), n))).collect();
    let disturbances = tokio::spawn(disturb(Arc::clone(&world)));
    let is_finished = push_and_wait(&world).await;
    let simulated = world.record.now();
    world.over.cancel();
    disturbances.abort();
    let mut lives = 0;
    for worker in workers {
        lives += worker.await.unwrap_or(0);
    }
    result(&world, is_finished, lives, simulated)
}

fn result(world: &SimWorld, is_finished: bool, lives: u32, simulated: Duration) -> SimulationRun {
    let evidence = RunEvidence {
        plan: &world.plan,
        events: world.queue.events(),
        reporters: world.queue.reporters(),
        dead: world.queue.dead(),
        waiting: world.queue.waiting().len(),
        in_progress_max: world.queue.in_progress_max(),
        duplicated: world.queue.duplicated(),
        keys: &world.keys,
        is_finished,
    };
    let partner = world.network.partner();
    let broken = promises::broken(&evidence, partner.model(), world.network.now(), &world.record);
    let mut log = world.record.lock();
    let met_without_fault = log.met_without_fault.iter().map(|decision| (NO_FAULT, *decision));
    let met = log.met.iter().copied().chain(met_without_fault).collect();
    let (digest, lines) = (log.digest, std::mem::take(&mut log.lines));
    SimulationRun { plan: world.plan.clone(), broken, met, digest, lines, lives, simulated }
}

/// Puts the jobs on the queue, ends the faults when their time is over, and waits until every job is finished. Returns
/// whether all were.
async fn push_and_wait(world: &SimWorld) -> bool {
    let start = Instant::now();
    for job in &world.plan.jobs {
        sleep_until(start + job.at).await;
        world.record.note(format_args!("{} ({:?}) is on the queue", job.id, job.kind));
        match job.is_dated {
            true => world.queue.push(job.lane, job.body.clone()),
            false => world.queue.push_undated(job.lane, job.body.clone()),
        }
    }
    let calm_at = start + world.plan.calm_after;
    if timeout(calm_at.saturating_duration_since(Instant::now()), all_finished(world)).await.is_ok() {
        return true;
    }
    world.calm_down();
    timeout(FINISH_MAX, all_finished(world)).await.is_ok()
}

async fn all_finished(world: &SimWorld) {
    while !world.queue.is_empty() {
        sleep(CHECK_EVERY).await;
    }
}

/// Breaks connections to the broker, and marks the jobs whose acknowledgement was lost.
async fn disturb(world: Arc<SimWorld>) {
    let disconnects = async {
        let start = Instant::now();
        for (at, worker) in &world.plan.disconnects {
            sleep_until(start + *at).await;
            if !world.calm.is_cancelled() {
                world.record.note(format_args!("connection of worker {worker} breaks"));
                world.mark(&world.queue.crash_of(*worker), "disconnect");
            }
        }
    };
    let status_changes = async {
        let start = Instant::now();
        for change in &world.plan.status_changes {
            sleep_until(start + change.at).await;
            world.record.note(format_args!("{} becomes {}", change.email, change.status));
            let users = vec![UserChange::status_of(&change.email, change.status)];
            let control = SandboxControl { users, ..SandboxControl::default() };
            world.network.partner().control(world.network.now(), &control);
        }
    };
    let lost_acks = async {
        while !world.calm.is_cancelled() {
            world.mark(&world.queue.take_lost_acks(), "ack-lost");
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::join!(disconnects, lost_acks, status_changes);
}
