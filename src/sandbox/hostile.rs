//! The partner together with everything that goes wrong on the way to it: pure, like the [`Model`] inside.
//!
//! A request and a time in; out comes what leaves on the wire and when. Nothing sleeps and nothing is a socket, so a
//! simulation calls it directly and the HTTP shell does what it says.

use std::time::{Duration, UNIX_EPOCH};

use crate::domain::Timestamp;
use crate::sandbox::config::{ModelConfig, SandboxConfig};
use crate::sandbox::control::Control;
use crate::sandbox::faults::{Fate, Faults};
use crate::sandbox::model::{CreateRequest, ListRequest, Model};
use crate::sandbox::plan::FaultKind;
use crate::sandbox::reply::Reply;
use crate::sandbox::stats::SandboxStats;

/// What leaves on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The whole answer.
    Whole(Reply),
    /// Nothing; the connection is closed.
    Nothing,
    /// The first half of the answer; then the connection is closed.
    Half(Reply),
    /// The whole answer, so slowly that it takes [`crate::sandbox::DRIP`].
    Drip(Reply),
}

/// An answer that leaves after `delay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What leaves.
    pub wire: Wire,
    /// How long it is held back, after the request took effect.
    pub delay: Duration,
    /// What went wrong with it, if anything.
    pub fault: Option<FaultKind>,
}

/// A partner with faults.
#[derive(Debug)]
pub struct Hostile {
    model: Model,
    faults: Faults,
    /// The partner without the fault list, to go back to.
    base: ModelConfig,
    epoch: Timestamp,
    answers_lost: u64,
    answers_failed: u64,
    faults_injected: u64,
}

/// How long a 429 of a fault asks to wait.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl Hostile {
    /// A partner without users. `epoch` is the wall-clock time at which `now` is zero.
    pub fn new(config: SandboxConfig, epoch: Timestamp) -> Self {
        let faults = Faults::new(&config);
        let model = Model::new(config.faults.applied_to(config.model.clone()), epoch);
        Self { model, faults, base: config.model, epoch, answers_lost: 0, answers_failed: 0, faults_injected: 0 }
    }

    /// `POST /v2/partner/card/users`.
    pub fn create(&mut self, now: Duration, request: &CreateRequest<'_>) -> Answer {
        let fault = self.faults.next_fault(now, true);
        if let Some(fault) = fault
            && let Some(wire) = self.instead(now, fault)
        {
            return self.answer(wire, Some(fault));
        }
        let reply = self.model.create(now, request);
        let fate = if reply.status == 201 { self.faults.next_fate() } else { Fate::Sent };
        match (fault, fate) {
            (Some(fault), _) => {
                let wire = self.afterwards(fault, reply);
                self.answer(wire, Some(fault))
            }
            (None, Fate::Sent) => self.answer(Wire::Whole(reply), None),
            (None, Fate::Lost) => {
                self.answers_lost += 1;
                self.answer(Wire::Nothing, None)
            }
            (None, Fate::Failed) => {
                self.answers_failed += 1;
                self.answer(Wire::Whole(internal_error()), None)
            }
        }
    }

    /// `GET /v1/partner/card/users`.
    pub fn list(&mut self, now: Duration, request: &ListRequest<'_>) -> Answer {
        let fault = self.faults.next_fault(now, false);
        if let Some(fault) = fault
            && let Some(wire) = self.instead(now, fault)
        {
            return self.answer(wire, Some(fault));
        }
        let reply = self.model.list(now, request);
        let wire = match fault {
            Some(fault) => self.afterwards(fault, reply),
            None => Wire::Whole(reply),
        };
        self.answer(wire, fault)
    }

    /// What leaves instead of the partner's answer; `None`: the request takes effect.
    fn instead(&self, now: Duration, fault: FaultKind) -> Option<Wire> {
        let reply = match fault {
            FaultKind::Drop => return Some(Wire::Nothing),
            FaultKind::ErrorBefore => internal_error(),
            FaultKind::Throttled => Reply::throttled(Some(RETRY_AFTER.as_secs().to_string())),
            FaultKind::ThrottledDate => {
                let clock = self.model.wrong_time(now).unwrap_or(self.epoch.plus(now));
                Reply::throttled(Some(http_date(clock.plus(RETRY_AFTER))))
            }
            FaultKind::ThrottledBare => Reply::throttled(None),
            FaultKind::Unauthorized => Reply::error(401, "UNAUTHORIZED", "Missing or invalid API key"),
            FaultKind::WalletEmpty => {
                Reply::error(402, "INSUFFICIENT_WALLET_BALANCE", "The wallet balance is too low to create a user")
            }
            FaultKind::Suspended => Reply::error(403, "ACCOUNT_SUSPENDED", "The partner account is suspended"),
            FaultKind::NotFound => Reply::error(404, "NOT_FOUND", "There is no such resource"),
            FaultKind::Odd400 => Reply::odd(),
            FaultKind::Html200 => Reply::html(200, "Please sign in to use this network"),
            _ => return None,
        };
        Some(Wire::Whole(reply))
    }

    /// What becomes of the partner's answer.
    fn afterwards(&mut self, fault: FaultKind, reply: Reply) -> Wire {
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
            FaultKind::Truncated => {
                // The bodies are JSON objects, so that what is left of one is none.
                let body = reply.body.chars().take(reply.body.chars().count() / 2).collect();
                Wire::Whole(Reply { body, ..reply })
            }
            FaultKind::WrongJson if reply.status < 300 => {
                Wire::Whole(Reply { body: r#"{"result":[{"id":1}]}"#.to_owned(), ..reply })
            }
            FaultKind::Drip => Wire::Drip(reply),
            FaultKind::Html502 => Wire::Whole(Reply::html(502, "Bad Gateway")),
            _ => Wire::Whole(reply),
        }
    }

    fn answer(&mut self, wire: Wire, fault: Option<FaultKind>) -> Answer {
        self.faults_injected += u64::from(fault.is_some());
        Answer { wire, delay: self.faults.next_delay(), fault }
    }

    /// What the header `Date` says; `None`: the right time.
    pub fn date(&self, now: Duration) -> Option<String> {
        self.model.wrong_time(now).map(http_date)
    }

    /// The partner itself.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What was counted so far.
    pub fn stats(&self) -> SandboxStats {
        SandboxStats {
            model: self.model.stats(),
            answers_lost: self.answers_lost,
            answers_failed: self.answers_failed,
            faults_injected: self.faults_injected,
        }
    }

    /// Changes it from `now` on.
    pub fn control(&mut self, now: Duration, control: &Control) {
        let Self { model, faults, .. } = self;
        if let Some(account) = control.account {
            model.set_account(account);
        }
        if let Some(creations) = control.wallet {
            model.set_wallet(creations);
        }
        if let Some(requests_per_second) = control.rate_limit {
            model.set_rate_limit(requests_per_second);
        }
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
            model.set_quirks(plan.applied_to(self.base.clone()));
            faults.set_plan(plan, now);
        }
    }
}

fn http_date(time: Timestamp) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + time.since(Timestamp::from_unix_ms(0)))
}

fn internal_error() -> Reply {
    Reply::error(500, "INTERNAL_SERVER_ERROR", "Something went wrong")
}
