//! The partner's ports on the pure sandbox, with a network in between: requests travel, arrive late, or aren't sent.
//!
//! A request that was sent arrives although its sender dies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::adapters::plu_http::{self, PartnerClock};
use crate::clock::Clock;
use crate::domain::answer::{
    ApiReply, DeleteAnswer, RefusalMarks, UnknownReason, UnreachableReason, classify, classify_delete,
};
use crate::domain::{AccountReason, Answer, IdempotencyKey, ServiceId};
use crate::ports::{ListError, PartnerApi, UserList, UserListPage};
use crate::sandbox::{
    CreateRequest, DRIP, DeleteRequest, FaultKind, HostilePartner, ListRequest, ModelConfig, SandboxAnswer,
    SandboxReply, Wire,
};
use crate::testing::simulation::plan::Plan;
use crate::testing::simulation::record::RunRecord;
use crate::testing::simulation::replacing::broken_by_deletion;

/// How long a client waits for an answer: the default of `api.timeout_s`.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest travel time of a late request. Longer than the key TTL.
const LATE_MAX: Duration = Duration::from_secs(400);

/// The network to the partner. Clones are the same network.
#[derive(Debug, Clone)]
pub(super) struct Network(Arc<NetworkShared>);

#[derive(Debug)]
struct NetworkShared {
    partner: Mutex<HostilePartner>,
    chance: Mutex<NetworkChance>,
    record: RunRecord,
    plan: Plan,
    clock: Clock,
    /// How long the partner existed before the run began.
    prehistory: Duration,
    authorization: String,
    marks: RefusalMarks,
    /// Tolerates any difference: that of the plan is within the settings.
    partner_clock: PartnerClock,
}

/// What goes wrong on the network.
#[derive(Debug)]
struct NetworkChance {
    rng: fastrand::Rng,
    travel_max: Duration,
    late: f64,
    list_failures: f64,
    unreachable: Option<(Duration, Duration)>,
}

/// Travel time of a request or an answer.
struct Travel {
    time: Duration,
    is_late: bool,
}

impl Network {
    pub(super) fn new(
        partner: HostilePartner,
        prehistory: Duration,
        plan: &Plan,
        record: RunRecord,
        clock: Clock,
        marks: RefusalMarks,
    ) -> Self {
        let chance = NetworkChance {
            rng: fastrand::Rng::with_seed(plan.seed.wrapping_add(2)),
            travel_max: plan.travel_max,
            late: plan.late,
            list_failures: plan.list_failures,
            unreachable: plan.unreachable,
        };
        Self(Arc::new(NetworkShared {
            partner: Mutex::new(partner),
            chance: Mutex::new(chance),
            record,
            plan: plan.clone(),
            clock,
            prehistory,
            authorization: format!("Bearer {}", ModelConfig::default().api_key.expose_secret()),
            marks,
            partner_clock: PartnerClock::new(Duration::MAX),
        }))
    }

    pub(super) fn partner(&self) -> MutexGuard<'_, HostilePartner> {
        self.0.partner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the partner's time.
    pub(super) fn now(&self) -> Duration {
        self.0.prehistory + self.0.record.now()
    }

    /// Nothing goes wrong on the network from now on.
    pub(super) fn calm(&self) {
        let mut chance = self.chance();
        chance.late = 0.0;
        chance.list_failures = 0.0;
        chance.unreachable = None;
    }

    fn chance(&self) -> MutexGuard<'_, NetworkChance> {
        self.0.chance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unreachable(&self) -> bool {
        let now = self.0.record.now();
        self.chance().unreachable.is_some_and(|(from, to)| (from..to).contains(&now))
    }

    fn list_fails(&self) -> bool {
        let mut chance = self.chance();
        let list_failures = chance.list_failures;
        chance.rng.f64() < list_failures
    }

    fn travel(&self) -> Travel {
        let mut chance = self.chance();
        let is_late = chance.rng.f64() < chance.late;
        let max = if is_late { LATE_MAX } else { chance.travel_max };
        Travel { time: max.mul_f64(chance.rng.f64()), is_late }
    }

    /// Sends a request and waits for the answer.
    async fn exchange(
        &self,
        key: Option<Uuid>,
        request: impl FnOnce(&mut HostilePartner, Duration) -> SandboxAnswer + Send + 'static,
    ) -> Result<SandboxReply, UnknownReason> {
        let (sender, answer) = oneshot::channel();
        let (there, back) = (self.travel(), self.travel());
        if let (true, Some(key)) = (there.is_late, key) {
            self.0.record.mark(key, "late");
        }
        let network = self.clone();
        tokio::spawn(async move {
            sleep(there.time).await;
            let now = network.now();
            let answer = request(&mut network.partner(), now);
            network.note_fault(key, answer.fault);
            let drip = if matches!(answer.wire, Wire::Drip(_)) { DRIP } else { Duration::ZERO };
            sleep(answer.delay + back.time + drip).await;
            // The sender of the request may have died.
            let _ = sender.send(answer.wire);
        });
        match timeout(TIMEOUT, answer).await {
            Err(_) => Err(UnknownReason::Timeout),
            Ok(Ok(Wire::Whole(reply) | Wire::Drip(reply))) => Ok(reply),
            Ok(Ok(Wire::Nothing | Wire::Half(_)) | Err(_)) => Err(UnknownReason::ConnectionLost),
        }
    }

    fn note_fault(&self, key: Option<Uuid>, fault: Option<FaultKind>) {
        let record = &self.0.record;
        let Some(fault) = fault else { return };
        match key {
            Some(key) => {
                record.note(format_args!("{key} fault: {}", fault.name()));
                record.mark(key, fault.name());
            }
            None => {
                record.note(format_args!("list fault: {}", fault.name()));
                record.mark_looking_up(match fault {
                    FaultKind::Throttled | FaultKind::ThrottledDate | FaultKind::ThrottledBare => "list-throttled",
                    FaultKind::Unauthorized | FaultKind::Forbidden | FaultKind::NotFound => "list-account",
                    _ => "list-failed",
                });
            }
        }
    }

    async fn send_creation(&self, key: Uuid, body: &Bytes) -> Answer {
        let (shared, header, body) = (Arc::clone(&self.0), key.to_string(), body.clone());
        let exchanged = self.exchange(Some(key), move |partner, now| {
            let request = CreateRequest {
                authorization: Some(&shared.authorization),
                idempotency_key: Some(&header),
                content_type: Some("application/json"),
                body: &body,
            };
            partner.create(now, &request)
        });
        match exchanged.await {
            Ok(reply) => classify(&api_reply(&reply), &self.0.marks, self.0.clock.now()),
            Err(reason) => Answer::Unknown(reason),
        }
    }
}

/// Returns the reply as the adapter reads it.
fn api_reply(reply: &SandboxReply) -> ApiReply<'_> {
    ApiReply {
        status: reply.status,
        retry_after: reply.retry_after.as_deref(),
        content_type: reply.content_type,
        date: None,
        body: reply.body.as_bytes(),
    }
}

impl PartnerApi for Network {
    async fn create(&self, key: &IdempotencyKey, body: &Bytes) -> Answer {
        let key = *key.uuid();
        let record = &self.0.record;
        record.note(format_args!("{key} sent"));
        record.sent(Some(key));
        let answer = if self.is_unreachable() {
            record.mark(key, "unreachable");
            Answer::NotSent(UnreachableReason::Other)
        } else {
            // Counted before the answer, because the sender may die before it.
            *record.lock().attempts.entry(key).or_default() += 1;
            self.send_creation(key, body).await
        };
        if matches!(answer, Answer::Throttled { .. } | Answer::Account(_)) {
            *record.lock().attempts.entry(key).or_default() -= 1;
        }
        record.answered(key, &answer);
        answer
    }

    async fn delete(&self, key: &IdempotencyKey, user: &ServiceId) -> DeleteAnswer {
        let (key, record) = (*key.uuid(), &self.0.record);
        record.note(format_args!("{key} sent: deletion of {user}"));
        record.sent(Some(key));
        let broken = broken_by_deletion(&self.0.plan, self.partner().model(), self.now(), record.now(), user);
        record.lock().broken.extend(broken);
        if self.is_unreachable() {
            return DeleteAnswer::Other(Answer::NotSent(UnreachableReason::Other));
        }
        let (shared, header, user) = (Arc::clone(&self.0), key.to_string(), user.clone());
        let exchanged = self.exchange(Some(key), move |partner, now| {
            let request = DeleteRequest {
                authorization: Some(&shared.authorization),
                idempotency_key: Some(&header),
                service_id: user.as_str(),
            };
            partner.delete(now, &request)
        });
        let answer = match exchanged.await {
            Ok(reply) => classify_delete(&api_reply(&reply), &self.0.marks, self.0.clock.now()),
            Err(reason) => DeleteAnswer::Other(Answer::Unknown(reason)),
        };
        record.note(format_args!("{key} answered: {}", answer.code()));
        answer
    }
}

impl UserList for Network {
    async fn page(&self, skip: u64, limit: u32) -> Result<UserListPage, ListError> {
        let record = &self.0.record;
        record.note(format_args!("list from {skip}"));
        record.sent(None);
        if self.is_unreachable() {
            return Err(ListError::Account(AccountReason::Unreachable(UnreachableReason::Other)));
        }
        if self.list_fails() {
            record.mark_looking_up("list-failed");
            return Err(ListError::Failed("simulated"));
        }
        let shared = Arc::clone(&self.0);
        let exchanged = self.exchange(None, move |partner, now| {
            let query = format!("skip={skip}&limit={limit}");
            partner.list(now, &ListRequest { authorization: Some(&shared.authorization), query: &query })
        });
        let Ok(reply) = exchanged.await else { return Err(ListError::Failed("no_answer")) };
        let page = plu_http::read_page(&api_reply(&reply), &self.0.partner_clock, self.0.clock.now());
        if matches!(page, Err(ListError::Account(_))) {
            record.mark_looking_up("list-account");
        }
        page
    }
}
