//! What the workers of a run share: the queue, the network to the partner, and the record.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::{Job, Lane, Timestamp};
use crate::pipeline::Context;
use crate::pipeline::rate::rate_limiter::RateLimiter;
use crate::sandbox::{FaultPlan, SandboxControl};
use crate::telemetry::Metrics;
use crate::testing::faulty::{FaultyPartner, FaultySource, ProcessLife};
use crate::testing::memory::{MemoryQueue, MemorySource};
use crate::testing::simulation::network::Network;
use crate::testing::simulation::partner::{PREHISTORY, partner};
use crate::testing::simulation::plan::{JobKind, JobPlan, Plan};
use crate::testing::simulation::record::RunRecord;

/// The wall-clock time at which every run begins.
const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

/// What the workers of a run share.
pub(super) struct SimWorld {
    pub(super) plan: Plan,
    pub(super) queue: MemoryQueue,
    pub(super) network: Network,
    pub(super) record: RunRecord,
    clock: Clock,
    /// By job message: the key under which the job is sent.
    pub(super) keys: BTreeMap<Vec<u8>, Uuid>,
    /// Cancelled when nothing goes wrong any more.
    pub(super) calm: CancellationToken,
    /// Cancelled when every job is finished.
    pub(super) over: CancellationToken,
}

impl SimWorld {
    pub(super) fn new(mut plan: Plan, settings: &Settings, record: RunRecord) -> Self {
        let clock = Clock::simulated(T0);
        let queue = if plan.is_broker { MemoryQueue::like_a_broker(clock) } else { MemoryQueue::new(clock) };
        queue.lose_acks(plan.lost_acks, plan.seed.wrapping_add(3));
        let partner = partner(&mut plan, T0);
        let network = Network::new(partner, PREHISTORY, &plan, record.clone(), clock, settings.refusal_marks());
        let key = |job: &JobPlan| Job::parse(job.body.as_bytes()).ok().map(|(job, _)| *job.key.uuid());
        let keys = plan.jobs.iter().filter_map(|job| Some((job.body.clone().into_bytes(), key(job)?))).collect();
        let (calm, over) = (CancellationToken::new(), CancellationToken::new());
        Self { plan, queue, network, record, clock, keys, calm, over }
    }

    /// Marks what is true of a job from the start as a fault that it has met.
    pub(super) fn mark_conditions(&self) {
        let plan = &self.plan;
        let conditions = [
            ("skew", plan.has("clock-skew")),
            ("no-created-at", plan.has("created-at=missing")),
            ("shuffled", plan.has("list-order=shuffled")),
            ("growing", plan.has("list-grows")),
            ("lag", plan.lags()),
            ("replay", plan.replays()),
        ];
        for job in &plan.jobs {
            let Some(key) = self.keys.get(job.body.as_bytes()) else { continue };
            for (name, _) in conditions.iter().filter(|(_, applies)| *applies) {
                self.record.mark(*key, name);
            }
            match job.kind {
                JobKind::Existed => self.record.mark(*key, "existed"),
                JobKind::Duplicate => self.mark_same_email(&job.email, "duplicate"),
                JobKind::SameEmail => self.mark_same_email(&job.email, "same-email"),
                JobKind::New | JobKind::Replaces(_) | JobKind::KeyReused | JobKind::Invalid | JobKind::Refused => {}
            }
        }
    }

    fn mark_same_email(&self, email: &str, fault: &'static str) {
        for other in self.plan.jobs.iter().filter(|other| other.email == email) {
            self.keys.get(other.body.as_bytes()).into_iter().for_each(|key| self.record.mark(*key, fault));
        }
    }

    /// Marks that the jobs with these messages have met a fault.
    pub(super) fn mark(&self, bodies: &[Vec<u8>], fault: &'static str) {
        for key in bodies.iter().filter_map(|body| self.keys.get(body)) {
            self.record.mark(*key, fault);
        }
    }

    pub(super) fn source(&self, worker: u32, lane: Lane, life: &ProcessLife) -> FaultySource<MemorySource> {
        FaultySource::new(self.queue.source_of(worker, lane).endless(), life.clone())
    }

    pub(super) fn context(
        &self,
        worker: u32,
        life: &ProcessLife,
        stop: CancellationToken,
    ) -> Arc<Context<FaultyPartner<Network>>> {
        let api = FaultyPartner::new(self.network.clone(), life.clone());
        let share = self.plan.rate.and_then(|rate| NonZeroU32::new(rate.get() / self.plan.workers));
        let metrics = Metrics::new().unwrap_or_else(|error| unreachable!("metric names are unique: {error}"));
        let mut policy = self.plan.policy;
        policy.seed = policy.seed.wrapping_add(u64::from(worker));
        Arc::new(Context::new(api, policy, RateLimiter::new(share), self.clock, metrics, stop))
    }

    /// Nothing goes wrong from now on.
    pub(super) fn calm_down(&self) {
        self.record.note(format_args!("calm"));
        self.calm.cancel();
        self.network.calm();
        self.queue.lose_acks(0.0, 0);
        // A list that grows with each page that is read would be longer for each scan, without an end.
        let quirks: Vec<&String> = self.plan.quirks.iter().filter(|quirk| !quirk.starts_with("list-grows")).collect();
        let quirks = FaultPlan::parse(&quirks).unwrap_or_default();
        let control = SandboxControl { faults: Some(quirks), ..SandboxControl::default() };
        self.network.partner().control(self.network.now(), &control);
    }
}
