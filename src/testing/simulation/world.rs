//! Runs a plan: the lives of some workers over one queue and one partner.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::{Overrides, Settings};
use crate::domain::{Job, Lane, Timestamp};
use crate::pipeline::Context;
use crate::pipeline::rate::rate_limiter::RateLimiter;
use crate::pipeline::worker::{Ended, work};
use crate::sandbox::{Control, CreateRequest, FaultPlan, Hostile, ModelConfig, SandboxConfig};
use crate::telemetry::Metrics;
use crate::testing::faulty::{FaultyPartner, FaultySource, Life, Troubles};
use crate::testing::memory::{MemoryQueue, MemorySource};
use crate::testing::simulation::network::{Network, PREHISTORY};
use crate::testing::simulation::plan::{JobPlan, Kind, Plan};
use crate::testing::simulation::promises::{self, Evidence};
use crate::testing::simulation::record::Record;

/// The wall-clock time at which every simulation begins.
const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

/// After this much calm every job must be over.
const PATIENCE: Duration = Duration::from_secs(4 * 3_600);

/// How often it is looked whether everything is over.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// Lives of one worker that may die or be stopped.
const EVENTFUL_LIVES_MAX: u32 = 6;

/// Longest time that a life begins after the one before has ended.
const REBIRTH_MS_MAX: u64 = 20_000;

/// The defaults; read once, because that takes longer than a run.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Age of a user who came shortly before the simulation began: more than a key's life and all clocks' differences.
const NEWCOMER_AGE: Duration = Duration::from_secs(1_000);

/// What came of a plan.
#[derive(Debug)]
pub struct Run {
    /// The plan.
    pub plan: Plan,
    /// Promises that were broken, in words. None is how it should be.
    pub broken: Vec<String>,
    /// Which faults a job had met when it came to a decision.
    pub met: Vec<(&'static str, &'static str)>,
    /// Digest of everything that happened: the same for the same seed.
    pub digest: u64,
    /// What happened, if it was asked for.
    pub lines: Vec<String>,
    /// Lives of workers.
    pub lives: u32,
    /// How much time went by in it.
    pub simulated: Duration,
}

/// Everything that the workers of a world share.
struct World {
    plan: Plan,
    queue: MemoryQueue,
    network: Network,
    record: Record,
    clock: Clock,
    /// By body: under which key a job is sent.
    keys: BTreeMap<Vec<u8>, Uuid>,
    /// Nothing goes wrong any more.
    calm: CancellationToken,
    /// Every job is over.
    over: CancellationToken,
}

/// Runs the plan of a seed. Needs a current-thread runtime with paused time.
pub async fn simulate(seed: u64, is_verbose: bool) -> Run {
    let settings = SETTINGS.get_or_init(|| {
        Settings::load(None, std::iter::empty(), &Overrides::default())
            .unwrap_or_else(|error| unreachable!("the defaults are in order: {error}"))
    });
    let plan = Plan::new(seed, settings.policy(seed));
    let record = Record::new(is_verbose);
    // The pipeline says in a log line what it decides.
    let _told = tracing::subscriber::set_default(record.clone());
    let clock = Clock::simulated(T0);
    let queue = if plan.is_broker { MemoryQueue::like_a_broker(clock) } else { MemoryQueue::new(clock) };
    queue.losing_acks(plan.lost_acks, seed.wrapping_add(3));
    let network = Network::new(partner(&plan), &plan, record.clone(), clock, settings.refusal_marks());
    let keys = plan.jobs.iter().filter_map(|job| key(job).map(|key| (job.body.clone().into_bytes(), key))).collect();
    let (calm, over) = (CancellationToken::new(), CancellationToken::new());
    let world = Arc::new(World { plan, queue, network, record, clock, keys, calm, over });
    world.mark_conditions();

    let workers: Vec<_> = (0..world.plan.workers).map(|n| tokio::spawn(lives(Arc::clone(&world), n))).collect();
    let disturbances = tokio::spawn(disturb(Arc::clone(&world)));
    let is_over = push_and_wait(&world).await;
    let simulated = world.record.now();
    world.over.cancel();
    disturbances.abort();
    let mut count = 0;
    for worker in workers {
        count += worker.await.unwrap_or(0);
    }
    let evidence = Evidence {
        plan: &world.plan,
        events: world.queue.events(),
        dead: world.queue.dead(),
        waiting: world.queue.waiting().len(),
        in_hand_max: world.queue.in_hand_max(),
        copied: world.queue.copied(),
        keys: &world.keys,
        is_over,
    };
    let broken = promises::broken(&evidence, world.network.partner().model(), world.network.now(), &world.record);
    let mut log = world.record.lock();
    let met = log.met.iter().copied().chain(log.unharmed.iter().map(|row| ("nothing", *row))).collect();
    let (digest, lines) = (log.digest, std::mem::take(&mut log.lines));
    drop(log);
    Run { plan: world.plan.clone(), broken, met, digest, lines, lives: count, simulated }
}

/// The partner with the users who are there since long.
fn partner(plan: &Plan) -> Hostile {
    let quirks = FaultPlan::parse(&plan.quirks).unwrap_or_default();
    let model = ModelConfig { seed: plan.seed, key_ttl: plan.policy.limits.key_ttl, ..ModelConfig::default() };
    let config = SandboxConfig { model, faults: quirks, ..SandboxConfig::default() };
    let mut partner = Hostile::new(config, T0.minus(PREHISTORY));
    let before = plan.jobs.iter().filter(|job| job.kind == Kind::Before);
    let mut created = Vec::new();
    for (n, job) in before.enumerate() {
        let email = if n % 2 == 0 { job.email.to_uppercase() } else { job.email.clone() };
        let mut message: serde_json::Value = serde_json::from_str(&job.body).unwrap_or_default();
        message["user"]["email"] = email.into();
        let key = Uuid::from_u128(n as u128 + 1).to_string();
        // Every other one is too old to be anybody's own and new enough for a list that lags behind. A redelivered job
        // without a time is taken to be a day old.
        let is_new = n % 2 == 1 && job.is_dated;
        let at = if is_new { PREHISTORY - NEWCOMER_AGE } else { Duration::from_secs(n as u64) };
        created.push((at, key, message["user"].to_string()));
    }
    created.sort();
    for (at, key, body) in &created {
        partner.create(
            *at,
            &CreateRequest {
                authorization: Some("Bearer sk_staging_sandbox"),
                idempotency_key: Some(key),
                content_type: Some("application/json"),
                body: body.as_bytes(),
            },
        );
    }
    let faults = FaultPlan::parse(&[plan.quirks.clone(), plan.faults.clone()].concat()).unwrap_or_default();
    partner.control(PREHISTORY, &Control { faults: Some(faults), ..Control::default() });
    partner
}

fn key(job: &JobPlan) -> Option<Uuid> {
    Job::parse(job.body.as_bytes()).ok().map(|(job, _)| *job.key.uuid())
}

impl World {
    /// What holds for a job from the start counts as a fault that it has met.
    fn mark_conditions(&self) {
        let plan = &self.plan;
        let conditions = [
            ("skew", plan.has("clock-skew")),
            ("no-created-at", plan.has("created-at=missing")),
            ("shuffled", plan.has("list-order=shuffled")),
            ("grows", plan.has("list-grows")),
            ("lag", plan.lags()),
            ("replay", plan.replays()),
        ];
        for job in &plan.jobs {
            let Some(key) = self.keys.get(job.body.as_bytes()) else { continue };
            for (name, _) in conditions.iter().filter(|(_, holds)| *holds) {
                self.record.mark(*key, name);
            }
            let kind = match job.kind {
                Kind::Before => "before",
                Kind::Twin => "twin",
                Kind::Rival => "rival",
                _ => continue,
            };
            self.record.mark(*key, kind);
            if matches!(job.kind, Kind::Twin | Kind::Rival) {
                for other in plan.jobs.iter().filter(|other| other.email == job.email) {
                    self.keys.get(other.body.as_bytes()).into_iter().for_each(|key| self.record.mark(*key, kind));
                }
            }
        }
    }

    fn mark(&self, bodies: &[Vec<u8>], fault: &'static str) {
        for key in bodies.iter().filter_map(|body| self.keys.get(body)) {
            self.record.mark(*key, fault);
        }
    }

    fn source(&self, worker: u32, lane: Lane, life: &Life) -> FaultySource<MemorySource> {
        FaultySource::new(self.queue.source_of(worker, lane).for_ever(), life.clone())
    }

    fn context(&self, worker: u32, life: &Life, stop: CancellationToken) -> Arc<Context<FaultyPartner<Network>>> {
        let api = FaultyPartner::new(self.network.clone(), life.clone());
        let share = self.plan.rate.and_then(|rate| std::num::NonZeroU32::new(rate.get() / self.plan.workers));
        let metrics = Metrics::new().unwrap_or_else(|error| unreachable!("names are unique: {error}"));
        let mut policy = self.plan.policy;
        policy.seed = policy.seed.wrapping_add(u64::from(worker));
        Arc::new(Context::new(api, policy, RateLimiter::new(share), self.clock, metrics, stop))
    }
}

/// Puts the jobs on the queue, ends the faults when their time is over, and waits until every job is over. Says whether
/// that came to pass.
async fn push_and_wait(world: &Arc<World>) -> bool {
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
    let is_over = async {
        while !world.queue.is_empty() {
            sleep(LOOK_EVERY).await;
        }
    };
    if timeout(calm_at.saturating_duration_since(Instant::now()), is_over).await.is_ok() {
        return true;
    }
    world.record.note(format_args!("calm"));
    world.calm.cancel();
    world.network.calm();
    world.queue.losing_acks(0.0, 0);
    // A list that grows with each page that anybody reads would be longer for each sweep, for ever.
    let quirks: Vec<&String> = world.plan.quirks.iter().filter(|quirk| !quirk.starts_with("list-grows")).collect();
    let quirks = FaultPlan::parse(&quirks).unwrap_or_default();
    let control = Control { faults: Some(quirks), ..Control::default() };
    world.network.partner().control(world.network.now(), &control);
    let is_over = async {
        while !world.queue.is_empty() {
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(PATIENCE, is_over).await.is_ok()
}

/// Breaks connections to the broker, and notes whose acknowledgement was lost.
async fn disturb(world: Arc<World>) {
    let breaks = async {
        let start = Instant::now();
        for (at, worker) in &world.plan.disconnects {
            sleep_until(start + *at).await;
            if !world.calm.is_cancelled() {
                world.record.note(format_args!("connection of worker {worker} breaks"));
                world.mark(&world.queue.crash_of(*worker), "disconnect");
            }
        }
    };
    let acks = async {
        while !world.calm.is_cancelled() {
            world.mark(&world.queue.take_acks_lost(), "ack-lost");
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::join!(breaks, acks);
}

/// One worker, life after life. Returns how many there were.
async fn lives(world: Arc<World>, worker: u32) -> u32 {
    let plan = &world.plan;
    let mut rng = fastrand::Rng::with_seed(plan.seed.wrapping_mul(31).wrapping_add(u64::from(worker)));
    let mut count = 0;
    while !world.over.is_cancelled() {
        count += 1;
        let is_eventful = count <= EVENTFUL_LIVES_MAX && !world.calm.is_cancelled();
        let dies = is_eventful && rng.f64() < plan.deaths;
        let troubles = Troubles {
            seed: rng.u64(..),
            dies_at_step: dies.then(|| rng.u64(1..120)),
            delays: plan.delays,
            delay_max: Duration::from_millis(rng.u64(1..2_000)),
            queue_errors: if is_eventful { plan.queue_errors } else { 0.0 },
        };
        let stops_after = (is_eventful && rng.f64() < plan.stops).then(|| Duration::from_millis(rng.u64(1..40_000)));
        world.record.note(format_args!("worker {worker} begins life {count}"));
        let how = live(&world, worker, troubles, stops_after).await;
        let held = world.queue.crash_of(worker);
        world.record.note(format_args!("worker {worker} ended: {how}, {} in hand", held.len()));
        // A good end leaves nothing in hand.
        world.mark(&held, if how == "refused" { "queue-error" } else { "death" });
        if !world.over.is_cancelled() {
            sleep(Duration::from_millis(rng.u64(1..REBIRTH_MS_MAX))).await;
        }
    }
    count
}

/// One life. Says how it ended.
async fn live(world: &Arc<World>, worker: u32, troubles: Troubles, stops_after: Option<Duration>) -> String {
    let (life, stop) = (Life::new(troubles), CancellationToken::new());
    let working = work(
        world.context(worker, &life, stop.clone()),
        world.source(worker, Lane::Signup, &life),
        world.source(worker, Lane::Bulk, &life),
    );
    let told = async {
        let early = async {
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
            () = early => {}
            () = calm => {}
        }
        stop.cancel();
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        biased;
        step = life.death() => format!("died {step}"),
        ended = working => match ended {
            Ok(Ended::Stopped) => "stopped".to_owned(),
            Ok(Ended::CutOff { jobs }) => format!("cut off {jobs}"),
            Ok(Ended::Drained) => "drained".to_owned(),
            Err(_) => "refused".to_owned(),
        },
        () = told => unreachable!("it never ends"),
    };
    // Whatever of it is still about does nothing any more.
    life.kill();
    ended
}
