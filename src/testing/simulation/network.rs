//! The partner's ports on the pure sandbox, with the network in between: requests travel, arrive late, or don't leave.
//!
//! A request that has left is not held up by the death of its sender.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::adapters::plu_http::{self, clocks::Clocks};
use crate::clock::Clock;
use crate::domain::answer::{NoConnection, RefusalMarks, Reply, UnknownReason, classify};
use crate::domain::{AccountReason, Answer, IdempotencyKey};
use crate::ports::{ListError, Page, PartnerApi, UserList};
use crate::sandbox::{self, CreateRequest, DRIP, FaultKind, Hostile, ListRequest, ModelConfig, Wire};
use crate::testing::simulation::record::Record;

/// How long a client waits for an answer: the default of `api.timeout_s`.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How late a late request arrives at most: after its key has expired.
const LATE_MAX: Duration = Duration::from_secs(400);

/// The partner was there this long before the simulation began.
pub(super) const PREHISTORY: Duration = Duration::from_secs(30 * 86_400);

/// What requests travel through. Clones are the same network.
#[derive(Debug, Clone)]
pub(super) struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    partner: Mutex<Hostile>,
    chance: Mutex<Chance>,
    record: Record,
    clock: Clock,
    authorization: String,
    marks: RefusalMarks,
    /// They differ by no more than is allowed for.
    clocks: Clocks,
    page_size: u32,
}

#[derive(Debug)]
struct Chance {
    rng: fastrand::Rng,
    travel_max: Duration,
    late: f64,
    sick_list: f64,
    unreachable: Option<(Duration, Duration)>,
}

impl Network {
    pub(super) fn new(
        partner: Hostile,
        plan: &crate::testing::simulation::Plan,
        record: Record,
        clock: Clock,
        marks: RefusalMarks,
    ) -> Self {
        let chance = Chance {
            rng: fastrand::Rng::with_seed(plan.seed.wrapping_add(2)),
            travel_max: plan.travel_max,
            late: plan.late,
            sick_list: plan.sick_list,
            unreachable: plan.unreachable,
        };
        let authorization = format!("Bearer {}", ModelConfig::default().api_key.expose_secret());
        let (partner, chance) = (Mutex::new(partner), Mutex::new(chance));
        Self(Arc::new(Shared {
            partner,
            chance,
            record,
            clock,
            authorization,
            marks,
            clocks: Clocks::new(Duration::MAX),
            page_size: 10,
        }))
    }

    pub(super) fn partner(&self) -> MutexGuard<'_, Hostile> {
        self.0.partner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partner's time.
    pub(super) fn now(&self) -> Duration {
        PREHISTORY + self.0.record.now()
    }

    fn chance(&self) -> MutexGuard<'_, Chance> {
        self.0.chance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing goes wrong on the way any more.
    pub(super) fn calm(&self) {
        let mut chance = self.chance();
        chance.late = 0.0;
        chance.sick_list = 0.0;
        chance.unreachable = None;
    }

    fn is_unreachable(&self) -> bool {
        let now = self.0.record.now();
        self.chance().unreachable.is_some_and(|(from, to)| (from..to).contains(&now))
    }

    fn is_sick(&self) -> bool {
        let mut chance = self.chance();
        let sick_list = chance.sick_list;
        chance.rng.f64() < sick_list
    }

    /// One way. Says whether it is a late one.
    fn travel(&self) -> (Duration, bool) {
        let mut chance = self.chance();
        let is_late = chance.rng.f64() < chance.late;
        let max = if is_late { LATE_MAX } else { chance.travel_max };
        (max.mul_f64(chance.rng.f64()), is_late)
    }

    /// Sends a request on its way and waits for what comes back.
    async fn exchange(
        &self,
        key: Option<Uuid>,
        request: impl FnOnce(&mut Hostile, Duration) -> sandbox::Answer + Send + 'static,
    ) -> Result<sandbox::Reply, UnknownReason> {
        let (sender, answer) = oneshot::channel();
        let (there, is_late) = self.travel();
        let (back, _) = self.travel();
        if let (true, Some(key)) = (is_late, key) {
            self.0.record.mark(key, "late");
        }
        let network = self.clone();
        tokio::spawn(async move {
            sleep(there).await;
            let now = network.now();
            let answer = request(&mut network.partner(), now);
            network.note_fault(key, answer.fault);
            let drip = if matches!(answer.wire, Wire::Drip(_)) { DRIP } else { Duration::ZERO };
            sleep(answer.delay + back.min(LATE_MAX) + drip).await;
            // Whoever asked may have died.
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
                record.mark_asking(match fault {
                    FaultKind::Throttled | FaultKind::ThrottledDate | FaultKind::ThrottledBare => "list-throttled",
                    FaultKind::Unauthorized | FaultKind::Suspended | FaultKind::NotFound => "list-account",
                    _ => "list-failed",
                });
            }
        }
    }
}

impl PartnerApi for Network {
    async fn create(&self, key: &IdempotencyKey, body: &Bytes) -> Answer {
        let key = *key.uuid();
        let record = &self.0.record;
        record.note(format_args!("{key} sent"));
        record.departed(Some(key));
        let answer = if self.is_unreachable() {
            record.mark(key, "unreachable");
            Answer::NotSent(NoConnection::Other)
        } else {
            // Counted before it is answered: its sender may not live to see the answer.
            *record.lock().attempts.entry(key).or_default() += 1;
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
                Ok(reply) => {
                    let (retry_after, content_type) = (reply.retry_after.as_deref(), Some(reply.content_type));
                    let reply = Reply {
                        status: reply.status,
                        retry_after,
                        content_type,
                        date: None,
                        body: reply.body.as_bytes(),
                    };
                    classify(&reply, &self.0.marks, self.0.clock.now())
                }
                Err(reason) => Answer::Unknown(reason),
            }
        };
        if matches!(answer, Answer::Throttled { .. } | Answer::Account(_)) {
            *record.lock().attempts.entry(key).or_default() -= 1;
        }
        record.answered(key, &answer);
        answer
    }
}

impl UserList for Network {
    async fn page(&self, skip: u64) -> Result<Page, ListError> {
        let record = &self.0.record;
        record.note(format_args!("list from {skip}"));
        record.departed(None);
        if self.is_unreachable() {
            return Err(ListError::Account(AccountReason::Unreachable(NoConnection::Other)));
        }
        if self.is_sick() {
            record.mark_asking("list-failed");
            return Err(ListError::Failed("simulated"));
        }
        let shared = Arc::clone(&self.0);
        let exchanged = self.exchange(None, move |partner, now| {
            let query = format!("skip={skip}&limit={}", shared.page_size);
            partner.list(now, &ListRequest { authorization: Some(&shared.authorization), query: &query })
        });
        let Ok(reply) = exchanged.await else { return Err(ListError::Failed("no_answer")) };
        let (retry_after, content_type) = (reply.retry_after.as_deref(), Some(reply.content_type));
        let reply = Reply { status: reply.status, retry_after, content_type, date: None, body: reply.body.as_bytes() };
        let page = plu_http::read_page(&reply, &self.0.clocks, self.0.clock.now());
        if matches!(page, Err(ListError::Account(_))) {
            record.mark_asking("list-account");
        }
        page
    }
}
