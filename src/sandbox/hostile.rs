//! The partner with faults: a [`Model`], and the faults of the network in front of it.
//!
//! A pure function of requests and times: it returns what is sent to the client and after which delay. It never sleeps
//! and has no sockets, so the simulation calls it directly, and the HTTP server sends what it returns.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::domain::Timestamp;
use crate::sandbox::config::SandboxConfig;
use crate::sandbox::control::SandboxControl;
use crate::sandbox::damage::damaged;
use crate::sandbox::fault_kind::FaultKind;
use crate::sandbox::faults::{AnswerFate, Faults};
use crate::sandbox::model::Model;
use crate::sandbox::model_config::ModelConfig;
use crate::sandbox::reply::SandboxReply;
use crate::sandbox::request::{CreateRequest, DeleteRequest, ListRequest, RequestKind, WalletRequest};
use crate::sandbox::stats::SandboxStats;
use crate::sandbox::user_change::{ChangedUsers, UserChange};

/// What the client receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The whole answer.
    Whole(SandboxReply),
    /// Nothing; the connection is closed.
    Nothing,
    /// The first half of the answer; then the connection is closed.
    Half(SandboxReply),
    /// The whole answer, piece by piece over [`crate::sandbox::DRIP`].
    Drip(SandboxReply),
}

/// An answer that is sent after `delay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxAnswer {
    /// What is sent.
    pub wire: Wire,
    /// The delay after the request took effect.
    pub delay: Duration,
    /// The fault of the request, if any.
    pub fault: Option<FaultKind>,
}

/// A partner with faults.
#[derive(Debug)]
pub struct HostilePartner {
    model: Model,
    faults: Faults,
    /// The partner without the quirks of a fault list, for the next fault list.
    base: ModelConfig,
    epoch: Timestamp,
    /// Chooses the users of a share.
    chosen: fastrand::Rng,
    answers_lost: u64,
    answers_failed: u64,
    faults_injected: u64,
}

/// The `Retry-After` of the faults with 429 and 503.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl HostilePartner {
    /// A partner without users. `epoch` is the wall-clock time at which `now` is zero.
    pub fn new(config: SandboxConfig, epoch: Timestamp) -> Self {
        let faults = Faults::new(&config);
        let model = Model::new(config.faults.applied_to(config.model.clone()), epoch);
        let chosen = fastrand::Rng::with_seed(config.model.seed.wrapping_add(2));
        let base = config.model;
        Self { model, faults, base, epoch, chosen, answers_lost: 0, answers_failed: 0, faults_injected: 0 }
    }

    /// `POST /v2/partner/card/users`.
    pub fn create(&mut self, now: Duration, request: &CreateRequest<'_>) -> SandboxAnswer {
        self.exchange(now, RequestKind::Create, |model| model.create(now, request))
    }

    /// `GET /v1/partner/card/users`.
    pub fn list(&mut self, now: Duration, request: &ListRequest<'_>) -> SandboxAnswer {
        self.exchange(now, RequestKind::List, |model| model.list(now, request))
    }

    /// `DELETE /v1/partner/card/users/{serviceId}`.
    pub fn delete(&mut self, now: Duration, request: &DeleteRequest<'_>) -> SandboxAnswer {
        self.exchange(now, RequestKind::Delete, |model| model.delete(now, request))
    }

    /// `GET /v1/partner/wallet`.
    pub fn wallet(&mut self, now: Duration, request: &WalletRequest<'_>) -> SandboxAnswer {
        self.exchange(now, RequestKind::Wallet, |model| model.wallet(now, request))
    }

    /// Answers a request. `effect` is what it does at the partner, if the partner receives it.
    fn exchange(
        &mut self,
        now: Duration,
        kind: RequestKind,
        effect: impl FnOnce(&mut Model) -> SandboxReply,
    ) -> SandboxAnswer {
        let fault = self.faults.next_fault(now, kind);
        if let Some(fault) = fault
            && let Some(wire) = self.instead_of_partner(now, fault)
        {
            return self.answer(wire, Some(fault));
        }
        let users_before = self.model.stats().created;
        let reply = effect(&mut self.model);
        let is_created = self.model.stats().created > users_before;
        let reply = match fault {
            Some(FaultKind::IdNumber) if is_created => self.model.number_latest_user().unwrap_or(reply),
            _ => reply,
        };
        let has_fate = kind == RequestKind::Create && reply.status == 201;
        let fate = if has_fate { self.faults.next_fate() } else { AnswerFate::Sent };
        let wire = match (fault, fate) {
            (Some(fault), _) => self.after_effect(fault, reply),
            (None, AnswerFate::Sent) => Wire::Whole(reply),
            (None, AnswerFate::Lost) => {
                self.answers_lost += 1;
                Wire::Nothing
            }
            (None, AnswerFate::Failed) => {
                self.answers_failed += 1;
                Wire::Whole(internal_error())
            }
        };
        self.answer(wire, fault)
    }

    /// What is sent if the partner doesn't receive the request. `None`: the partner receives it.
    fn instead_of_partner(&self, now: Duration, fault: FaultKind) -> Option<Wire> {
        let reply = match fault {
            FaultKind::Drop => return Some(Wire::Nothing),
            FaultKind::ErrorBefore => internal_error(),
            FaultKind::Unavailable => unavailable(),
            FaultKind::Throttled => SandboxReply::throttled(Some(RETRY_AFTER.as_secs().to_string())),
            FaultKind::ThrottledDate => {
                let clock = self.model.wrong_time(now).unwrap_or(self.epoch.plus(now));
                SandboxReply::throttled(Some(http_date(clock.plus(RETRY_AFTER))))
            }
            FaultKind::ThrottledBare => SandboxReply::throttled(None),
            FaultKind::ThrottledLong => SandboxReply::throttled(Some("9".repeat(60))),
            FaultKind::Unauthorized => SandboxReply::error(401, "UNAUTHORIZED", "Missing or invalid API key"),
            FaultKind::PaymentRequired => SandboxReply::error(
                402,
                "INSUFFICIENT_WALLET_BALANCE",
                "The wallet balance is too low to create a user",
            ),
            FaultKind::Forbidden => SandboxReply::error(403, "ACCOUNT_SUSPENDED", "The partner account is suspended"),
            FaultKind::NotFound => SandboxReply::error(404, "NOT_FOUND", "The resource does not exist"),
            FaultKind::Odd400 => SandboxReply::odd(),
            FaultKind::Html200 => SandboxReply::html(200, "Please sign in to use this network"),
            _ => SandboxReply::gateway(fault.gateway_status()?),
        };
        Some(Wire::Whole(reply))
    }

    /// What the fault makes of the partner's answer.
    fn after_effect(&mut self, fault: FaultKind, reply: SandboxReply) -> Wire {
        match fault {
            FaultKind::Lost => {
                self.answers_lost += 1;
                Wire::Nothing
            }
            FaultKind::Cut => Wire::Half(reply),
            FaultKind::ErrorAfter => {
                self.answers_failed += 1;
                Wire::Whole(internal_error())
            }
            FaultKind::UnavailableAfter => {
                self.answers_failed += 1;
                Wire::Whole(unavailable())
            }
            FaultKind::Drip => Wire::Drip(reply),
            FaultKind::Html502 => Wire::Whole(SandboxReply::html(502, "Bad Gateway")),
            _ => Wire::Whole(damaged(fault, reply)),
        }
    }

    fn answer(&mut self, wire: Wire, fault: Option<FaultKind>) -> SandboxAnswer {
        self.faults_injected += u64::from(fault.is_some());
        SandboxAnswer { wire, delay: self.faults.next_delay(), fault }
    }

    /// The value of the header `Date`; `None`: the right time.
    pub fn date(&self, now: Duration) -> Option<String> {
        self.model.wrong_time(now).map(http_date)
    }

    /// The partner without its faults.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The counters.
    pub fn stats(&self) -> SandboxStats {
        SandboxStats {
            model: self.model.stats(),
            answers_lost: self.answers_lost,
            answers_failed: self.answers_failed,
            faults_injected: self.faults_injected,
        }
    }

    /// Applies the changes, from `now` on. Returns the users that were named and don't exist: then nothing is changed.
    pub fn control(&mut self, now: Duration, control: &SandboxControl) -> Vec<String> {
        let named = control.users.iter().filter_map(|change| match &change.users {
            ChangedUsers::One(user) => Some(user),
            ChangedUsers::Share(_) => None,
        });
        let unknown: Vec<String> = named.filter(|user| self.model.find(user).is_none()).cloned().collect();
        if !unknown.is_empty() {
            return unknown;
        }
        self.change_faults(now, control);
        self.change_model(control);
        control.users.iter().for_each(|change| self.change_users(change));
        Vec::new()
    }

    fn change_faults(&mut self, now: Duration, control: &SandboxControl) {
        let Self { model, faults, base, .. } = self;
        if let Some(ms) = control.latency_ms {
            faults.latency = Duration::from_millis(ms);
        }
        if let Some(ms) = control.latency_jitter_ms {
            faults.latency_jitter = Duration::from_millis(ms);
        }
        if let Some(every) = control.lose_every {
            faults.lose_every = every;
        }
        if let Some(every) = control.error_every {
            faults.error_every = every;
        }
        if let Some(plan) = &control.faults {
            model.set_quirks(now, plan.applied_to(base.clone()));
            faults.set_plan(plan, now);
        }
    }

    fn change_model(&mut self, control: &SandboxControl) {
        let Self { model, base, .. } = self;
        if let Some(account) = control.account {
            model.set_account(account);
        }
        if let Some(fee) = control.fee {
            base.fee = fee;
            model.set_fee(fee);
        }
        if let Some(creations) = control.wallet {
            model.set_wallet(creations);
        }
        if let Some(balance) = control.balance {
            model.set_balance(balance);
        }
        if let Some(requests_per_second) = control.rate_limit {
            model.set_rate_limit(requests_per_second);
        }
    }

    fn change_users(&mut self, change: &UserChange) {
        let positions = match &change.users {
            ChangedUsers::One(user) => self.model.find(user).into_iter().collect(),
            ChangedUsers::Share(share) => self.model.share(*share, &mut self.chosen),
        };
        let status: Option<Option<Arc<str>>> = change.status.as_ref().map(|status| status.as_deref().map(Arc::from));
        for position in positions {
            if let Some(status) = &status {
                self.model.set_status(position, status.clone());
            }
            if let Some(cards) = change.active_cards {
                self.model.set_active_cards(position, cards);
            }
        }
    }
}

fn http_date(time: Timestamp) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + time.since(Timestamp::from_unix_ms(0)))
}

fn unavailable() -> SandboxReply {
    SandboxReply::unavailable(RETRY_AFTER.as_secs().to_string())
}

fn internal_error() -> SandboxReply {
    SandboxReply::error(500, "INTERNAL_SERVER_ERROR", "Something went wrong")
}
