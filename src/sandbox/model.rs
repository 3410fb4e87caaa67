//! The partner as a pure value: it answers a request at a given time.
//!
//! Time is a [`Duration`] since an epoch that the caller chooses. The model knows the wall-clock time of the epoch,
//! which `createdAt` needs. A `now` before the latest one counts as the latest one.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;

use crate::domain::Timestamp;
use crate::sandbox::ids::Ids;
use crate::sandbox::key_ledger::{FirstUse, KeyLedger};
use crate::sandbox::list_index::ListView;
use crate::sandbox::model_config::{AccountState, KeyReuse, ListOverLimit, ModelConfig};
use crate::sandbox::money::Money;
use crate::sandbox::new_user::{NewUser, SandboxProgram};
use crate::sandbox::refusal::SandboxRefusal;
use crate::sandbox::reply::{ReplyPagination, SandboxReply};
use crate::sandbox::request::{
    CreateRequest, DeleteRequest, ListRequest, WalletRequest, bearer, is_json, parse_key, parse_page,
};
use crate::sandbox::rolling_second::RollingSecond;
use crate::sandbox::rules::CreateBody;
use crate::sandbox::stats::ModelStats;
use crate::sandbox::users::{UserView, Users};
use crate::sandbox::wallet::{CURRENCY, Wallet};

/// How long a partner that replays remembers the first answer. Assumed: a day, as with other APIs.
const REPLAY_TTL: Duration = Duration::from_secs(86_400);

/// Time between the creations of the users who exist at the start.
const EARLIER_USERS_APART: Duration = Duration::from_secs(60);

/// The simulated partner.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    epoch: Timestamp,
    latest: Duration,
    users: Users,
    wallet: Wallet,
    keys: KeyLedger,
    arrivals: RollingSecond,
    admitted: RollingSecond,
    stats: ModelStats,
}

impl Model {
    /// A partner with the users of `config.users_min`. `epoch` is the wall-clock time at which `now` is zero.
    pub fn new(config: ModelConfig, epoch: Timestamp) -> Self {
        let mut users = Users::default();
        for age in (1..=config.users_min).rev() {
            insert_other(&mut users, epoch.minus(EARLIER_USERS_APART * age));
        }
        Self {
            wallet: Wallet::for_creations(config.wallet, config.fee),
            config,
            epoch,
            latest: Duration::ZERO,
            users,
            keys: KeyLedger::default(),
            arrivals: RollingSecond::default(),
            admitted: RollingSecond::default(),
            stats: ModelStats::default(),
        }
    }

    /// `POST /v2/partner/card/users`.
    ///
    /// The first check that fails gives the answer. Their order is Assumed: rate limit (429), API key (401), account
    /// (403), idempotency key present and well-formed (400), key unused (400), content type and JSON (400), fields
    /// (422), wallet (402). The checks after these use up the key: program and blacklist (400), email unused (400).
    pub fn create(&mut self, now: Duration, request: &CreateRequest<'_>) -> SandboxReply {
        let now = self.advance(now);
        self.stats.requests.create += 1;
        let result = self.try_create(now, request);
        self.answer(result)
    }

    /// `GET /v1/partner/card/users`. The checks, in this order: rate limit (429), API key (401), account (403),
    /// parameters (422).
    pub fn list(&mut self, now: Duration, request: &ListRequest<'_>) -> SandboxReply {
        let now = self.advance(now);
        self.stats.requests.list += 1;
        for _ in 0..self.config.list_grows {
            insert_other(&mut self.users, self.epoch.plus(now));
        }
        let result = self.try_list(now, request);
        self.answer(result)
    }

    /// `DELETE /v1/partner/card/users/{serviceId}`. The checks, in this order: rate limit (429), API key (401),
    /// account (403), idempotency key present and well-formed (400), key unused (400). The checks after these use up
    /// the key: the user exists (404 or 400) and has no active cards (409).
    pub fn delete(&mut self, now: Duration, request: &DeleteRequest<'_>) -> SandboxReply {
        let now = self.advance(now);
        self.stats.requests.delete += 1;
        let result = self.try_delete(now, request);
        self.answer(result)
    }

    /// `GET /v1/partner/wallet`. The checks, in this order: rate limit (429), API key (401), account (403).
    pub fn wallet(&mut self, now: Duration, request: &WalletRequest<'_>) -> SandboxReply {
        let now = self.advance(now);
        self.stats.requests.wallet += 1;
        let result = self.try_wallet(now, request);
        self.answer(result)
    }

    /// The counters.
    pub fn stats(&self) -> ModelStats {
        ModelStats { users: self.users.len() as u64, ..self.stats }
    }

    /// The balance of the wallet.
    pub fn balance(&self) -> Money {
        if self.config.account == AccountState::PaymentRequired { Money::ZERO } else { self.wallet.balance() }
    }

    /// The time of the partner's clock; `None` if it is right.
    pub(super) fn wrong_time(&self, now: Duration) -> Option<Timestamp> {
        (self.config.clock_skew_s != 0).then(|| self.config.on_partner_clock(self.epoch.plus(now)))
    }

    /// Every user in the order of creation, as of `now`. Not a request of the API: no counter changes.
    pub fn users(&self, now: Duration) -> impl Iterator<Item = UserView<'_>> {
        (0..self.users.positions()).filter_map(move |position| self.view(position, now))
    }

    /// The user with this email, without regard to case. Not a request of the API: no counter changes.
    pub fn user_by_email(&self, now: Duration, email: &str) -> Option<UserView<'_>> {
        self.view(self.users.find(email)?, now)
    }

    fn view(&self, position: usize, now: Duration) -> Option<UserView<'_>> {
        self.users.view(position, self.epoch.plus(now), &self.config)
    }
}

/// Changes while the model runs. None is a request of the API.
impl Model {
    /// Sets the state of the account.
    pub fn set_account(&mut self, account: AccountState) {
        self.config.account = account;
    }

    /// Sets what a creation costs.
    pub fn set_fee(&mut self, fee: Money) {
        self.config.fee = fee;
    }

    /// Sets the balance to the fees of this many creations; `None` is any number.
    pub fn set_wallet(&mut self, creations: Option<u64>) {
        self.wallet = Wallet::for_creations(creations, self.config.fee);
    }

    /// Sets the balance of the wallet; `None` pays for any number of creations.
    pub fn set_balance(&mut self, balance: Option<Money>) {
        self.wallet = Wallet::with_balance(balance);
    }

    /// Sets the maximum number of requests in any rolling second; `None` is any number. Requests that were admitted
    /// without a limit don't count against a new one.
    pub fn set_rate_limit(&mut self, requests_per_second: Option<u32>) {
        self.config.rate_limit = requests_per_second;
    }

    /// Takes over all properties that no other method here sets. Users that `users_min` asks for are created at `now`.
    pub(super) fn set_quirks(&mut self, now: Duration, from: ModelConfig) {
        let ModelConfig { account, rate_limit, .. } = self.config;
        self.config = ModelConfig { account, rate_limit, ..from };
        self.latest = self.latest.max(now);
        let missing = u64::from(self.config.users_min).saturating_sub(self.users.len() as u64);
        (0..missing).for_each(|_| insert_other(&mut self.users, self.epoch.plus(self.latest)));
    }

    /// The position of the user with this email or `serviceId`.
    pub(super) fn find(&self, user: &str) -> Option<usize> {
        self.users.find(user).or_else(|| self.users.find_id(user, &self.config))
    }

    /// The positions of a random share of the users, from 0 to 1.
    pub(super) fn share(&self, share: f64, rng: &mut fastrand::Rng) -> Vec<usize> {
        self.users.share(share, rng)
    }

    /// Sets the KYC status of a user; `None`: the one that its last name decides.
    pub(super) fn set_status(&mut self, position: usize, status: Option<Arc<str>>) {
        self.users.set_status(position, status);
    }

    pub(super) fn set_active_cards(&mut self, position: usize, cards: u32) {
        self.users.set_active_cards(position, cards);
    }

    /// Makes the `serviceId` of the latest user a number, and returns the answer to its creation.
    pub(super) fn number_latest_user(&mut self) -> Option<SandboxReply> {
        let position = self.users.positions().checked_sub(1)?;
        self.users.number(position, &self.config);
        Some(self.created(position))
    }
}

/// The checks of each request, in their order.
impl Model {
    fn advance(&mut self, now: Duration) -> Duration {
        self.latest = self.latest.max(now);
        let in_this_second = self.arrivals.push(self.latest) as u64;
        self.stats.max_requests_in_any_second = self.stats.max_requests_in_any_second.max(in_this_second);
        self.latest
    }

    fn answer(&mut self, result: Result<SandboxReply, SandboxRefusal>) -> SandboxReply {
        result.unwrap_or_else(|refusal| {
            refusal.count(&mut self.stats);
            refusal.reply(&self.config)
        })
    }

    fn try_create(&mut self, now: Duration, request: &CreateRequest<'_>) -> Result<SandboxReply, SandboxRefusal> {
        self.admit(now, request.authorization)?;
        let key = parse_key(request.idempotency_key)?;
        if let Some(first_use) = self.first_use(now, key) {
            return self.reuse(first_use);
        }
        if !request.content_type.is_some_and(is_json) {
            return Err(SandboxRefusal::ContentType);
        }
        let body = CreateBody::parse(request.body)?;
        let is_waived = self.users.is_fee_waived(body.email());
        let fee = if is_waived { Money::ZERO } else { self.config.fee };
        if self.config.account == AccountState::PaymentRequired || !self.wallet.can_pay(fee) {
            return Err(SandboxRefusal::PaymentRequired);
        }
        let time = self.epoch.plus(now);
        let created = body.new_user().and_then(|user| self.users.insert(time, &user).ok_or(SandboxRefusal::Duplicate));
        match &created {
            Ok(position) => self.keys.insert(now, key, FirstUse::Created(*position)),
            Err(SandboxRefusal::Blacklisted) => self.keys.insert(now, key, FirstUse::Blacklisted),
            Err(SandboxRefusal::Duplicate) => self.keys.insert(now, key, FirstUse::Duplicate),
            Err(_) => self.keys.insert(now, key, FirstUse::InvalidProgram),
        }
        let position = created?;
        self.wallet.pay(fee);
        self.stats.fees_total = self.stats.fees_total.plus(fee);
        let fees = if is_waived { &mut self.stats.fees_waived } else { &mut self.stats.fees_charged };
        *fees += 1;
        self.stats.created += 1;
        Ok(self.created(position))
    }

    fn created(&self, position: usize) -> SandboxReply {
        let url = Ids::new(self.config.seed).verification_url(position);
        SandboxReply::created(&self.users.service_id(position, &self.config), &url)
    }

    fn try_list(&mut self, now: Duration, request: &ListRequest<'_>) -> Result<SandboxReply, SandboxRefusal> {
        self.admit(now, request.authorization)?;
        if let Some(status) = self.config.list_refused {
            return Err(SandboxRefusal::ListRefused(status));
        }
        let (skip, limit) = parse_page(request.query)?;
        let limit_max = self.config.list_limit_max;
        let limit = limit.unwrap_or(self.config.list_limit_default.min(limit_max));
        if limit > limit_max && self.config.list_over_limit == ListOverLimit::Refused {
            return Err(SandboxRefusal::Invalid(format!("limit must be at most {limit_max}")));
        }
        let limit = limit.min(limit_max);
        self.stats.listed += 1;
        let lag = Duration::from_secs(self.config.list_lag_s);
        let view = ListView {
            order: self.config.list_order,
            positions_end: self.users.positions_created_by(self.epoch.plus(now), lag),
            seed: self.config.seed,
            shuffle: self.config.seed.wrapping_add(self.stats.requests.list),
        };
        let total = self.users.len_below(view.positions_end);
        let page = self.users.page(view, skip, limit);
        let users = page.into_iter().filter_map(|position| self.view(position, now)).collect();
        Ok(SandboxReply::page(users, ReplyPagination { skip, limit, total }))
    }

    fn try_delete(&mut self, now: Duration, request: &DeleteRequest<'_>) -> Result<SandboxReply, SandboxRefusal> {
        self.admit(now, request.authorization)?;
        let key = parse_key(request.idempotency_key)?;
        if let Some(first_use) = self.first_use(now, key) {
            return self.reuse(first_use);
        }
        let deleted = match self.users.find_id(request.service_id, &self.config) {
            None => FirstUse::UserNotFound,
            Some(position) => match self.users.active_cards(position) {
                0 => {
                    let is_approved = self.users.is_approved(position, self.epoch.plus(now), &self.config);
                    self.users.delete(position, is_approved);
                    self.stats.deleted += 1;
                    self.stats.approved_deleted += u64::from(is_approved);
                    FirstUse::Deleted
                }
                cards => FirstUse::ActiveCards(cards),
            },
        };
        self.keys.insert(now, key, deleted);
        self.first_answer(deleted)
    }

    fn try_wallet(&mut self, now: Duration, request: &WalletRequest<'_>) -> Result<SandboxReply, SandboxRefusal> {
        self.admit(now, request.authorization)?;
        self.stats.wallet_read += 1;
        Ok(SandboxReply::wallet(&self.config.slug, self.balance(), CURRENCY))
    }

    /// What the key was used for, if it is remembered.
    fn first_use(&mut self, now: Duration, key: u128) -> Option<FirstUse> {
        let ttl = if self.config.key_ttl.is_zero() { REPLAY_TTL } else { self.config.key_ttl };
        self.keys.evict(now, ttl);
        self.keys.first_use(key)
    }

    /// Answers the second use of a key.
    fn reuse(&self, first_use: FirstUse) -> Result<SandboxReply, SandboxRefusal> {
        if self.config.key_reuse != KeyReuse::Replayed && !self.config.key_ttl.is_zero() {
            return Err(SandboxRefusal::KeyUsed);
        }
        self.first_answer(first_use)
    }

    fn first_answer(&self, first_use: FirstUse) -> Result<SandboxReply, SandboxRefusal> {
        match first_use {
            FirstUse::Created(position) => Ok(self.created(position)),
            FirstUse::Duplicate => Err(SandboxRefusal::Duplicate),
            FirstUse::Blacklisted => Err(SandboxRefusal::Blacklisted),
            FirstUse::InvalidProgram => Err(SandboxRefusal::InvalidProgram),
            FirstUse::Deleted => Ok(SandboxReply::deleted()),
            FirstUse::UserNotFound => Err(SandboxRefusal::UserNotFound),
            FirstUse::ActiveCards(cards) => Err(SandboxRefusal::ActiveCards(cards)),
        }
    }

    /// The checks that every request passes: rate limit, API key, account.
    fn admit(&mut self, now: Duration, authorization: Option<&str>) -> Result<(), SandboxRefusal> {
        if let Some(limit) = self.config.rate_limit {
            if self.admitted.count(now) >= limit as usize {
                return Err(SandboxRefusal::Throttled { retry_after_s: self.config.retry_after_s });
            }
            self.admitted.push(now);
        }
        let is_known = authorization.and_then(bearer) == Some(self.config.api_key.expose_secret());
        match self.config.account {
            AccountState::KeyRevoked => Err(SandboxRefusal::Unauthorized),
            _ if !is_known => Err(SandboxRefusal::Unauthorized),
            AccountState::Suspended => Err(SandboxRefusal::Forbidden),
            AccountState::Ok | AccountState::PaymentRequired => Ok(()),
        }
    }
}

/// Creates a user of another client. If its email is taken, there is no new user this time.
fn insert_other(users: &mut Users, now: Timestamp) {
    let email = format!("user{}@elsewhere.example", users.positions());
    let program = SandboxProgram::Custodial;
    let _ = users.insert(now, &NewUser { email: &email, first_name: "Another", last_name: "Client", program });
}
