//! The partner as a pure value: it answers a request at a given time.
//!
//! Time is a [`Duration`] since an epoch that the caller chooses. The model knows the wall-clock time of the epoch,
//! which
//! `createdAt` needs. A `now` before the latest one counts as the latest one.

use std::time::Duration;

use secrecy::ExposeSecret;
use url::form_urlencoded;
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::sandbox::ids::Ids;
use crate::sandbox::key_ledger::{FirstUse, KeyLedger};
use crate::sandbox::model_config::{AccountState, KeyReuse, ModelConfig};
use crate::sandbox::new_user::{NewUser, SandboxProgram};
use crate::sandbox::refusal::SandboxRefusal;
use crate::sandbox::reply::{ReplyPagination, SandboxReply};
use crate::sandbox::rolling_second::RollingSecond;
use crate::sandbox::rules::CreateBody;
use crate::sandbox::stats::ModelStats;
use crate::sandbox::users::{UserView, Users};

/// How long a partner that replays remembers the first answer. Assumed: a day, as with other APIs.
const REPLAY_TTL: Duration = Duration::from_secs(86_400);

/// A request to create a user. Headers are as received; `None` is a header that is absent or isn't text.
#[derive(Clone, Copy, Debug, Default)]
pub struct CreateRequest<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `idempotency-key` header.
    pub idempotency_key: Option<&'a str>,
    /// The `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// A request for a page of users.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListRequest<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The query of the URL without its question mark, such as `skip=0&limit=50`.
    pub query: &'a str,
}

/// The simulated partner.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    epoch: Timestamp,
    latest: Duration,
    users: Users,
    keys: KeyLedger,
    arrivals: RollingSecond,
    admitted: RollingSecond,
    stats: ModelStats,
}

impl Model {
    /// A partner without users. `epoch` is the wall-clock time at which `now` is zero.
    pub fn new(config: ModelConfig, epoch: Timestamp) -> Self {
        Self {
            config,
            epoch,
            latest: Duration::ZERO,
            users: Users::default(),
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
        self.grow(now);
        let result = self.try_list(now, request);
        self.answer(result)
    }

    /// The counters.
    pub fn stats(&self) -> ModelStats {
        ModelStats { users: self.users.len() as u64, ..self.stats }
    }

    /// The time of the partner's clock; `None` if it is right.
    pub(super) fn wrong_time(&self, now: Duration) -> Option<Timestamp> {
        (self.config.clock_skew_s != 0).then(|| self.config.clock(self.epoch, now))
    }

    /// Sets the state of the account.
    pub fn set_account(&mut self, account: AccountState) {
        self.config.account = account;
    }

    /// Sets how many creations the wallet pays for; `None` is any number.
    pub fn set_wallet(&mut self, creations: Option<u64>) {
        self.config.wallet = creations;
    }

    /// Sets the maximum number of requests in any rolling second; `None` is any number. Requests that were admitted
    /// without a limit don't count against a new one.
    pub fn set_rate_limit(&mut self, requests_per_second: Option<u32>) {
        self.config.rate_limit = requests_per_second;
    }

    /// Takes over the properties of `from` that quirks set: the answer to a used key, the codes, the clock, the list.
    pub fn set_quirks(&mut self, from: ModelConfig) {
        let ModelConfig {
            key_reuse,
            key_used_code,
            dup_user_code,
            clock_skew_s,
            shows_created_at,
            list_order,
            list_limit_max,
            list_grows,
            list_lag_s,
            list_refused,
            ..
        } = from;
        let config = &mut self.config;
        config.key_reuse = key_reuse;
        config.key_used_code = key_used_code;
        config.dup_user_code = dup_user_code;
        config.clock_skew_s = clock_skew_s;
        config.shows_created_at = shows_created_at;
        config.list_order = list_order;
        config.list_limit_max = list_limit_max;
        config.list_grows = list_grows;
        config.list_lag_s = list_lag_s;
        config.list_refused = list_refused;
    }

    /// Every user in the order of creation, as of `now`. Not a request of the API: no counter changes.
    pub fn users(&self, now: Duration) -> impl Iterator<Item = UserView<'_>> {
        (0..self.users.len()).filter_map(move |position| self.view(position, now))
    }

    /// The user with this email, without regard to case. Not a request of the API: no counter changes.
    pub fn user_by_email(&self, now: Duration, email: &str) -> Option<UserView<'_>> {
        self.view(self.users.find(email)?, now)
    }

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
        self.admit(now)?;
        self.authorize(request.authorization)?;
        let key = parse_key(request.idempotency_key)?;
        self.keys.evict(now, self.key_ttl());
        if let Some(first_use) = self.keys.first_use(key) {
            return self.reuse(first_use);
        }
        if !request.content_type.is_some_and(is_json) {
            return Err(SandboxRefusal::ContentType);
        }
        let body = CreateBody::parse(request.body)?;
        if self.config.account == AccountState::WalletEmpty || self.config.wallet == Some(0) {
            return Err(SandboxRefusal::PaymentRequired);
        }
        let created = body.new_user().and_then(|user| self.users.insert(now, &user).ok_or(SandboxRefusal::Duplicate));
        match &created {
            Ok(position) => self.keys.insert(now, key, FirstUse::Created(*position)),
            Err(SandboxRefusal::Blacklisted) => self.keys.insert(now, key, FirstUse::Blacklisted),
            Err(SandboxRefusal::Duplicate) => self.keys.insert(now, key, FirstUse::Duplicate),
            Err(_) => self.keys.insert(now, key, FirstUse::InvalidProgram),
        }
        let position = created?;
        self.config.wallet = self.config.wallet.map(|creations| creations.saturating_sub(1));
        self.stats.created += 1;
        Ok(self.created(position))
    }

    fn created(&self, position: usize) -> SandboxReply {
        let ids = Ids::new(self.config.seed);
        SandboxReply::created(&ids.service_id(&self.config.slug, position), &ids.verification_url(position))
    }

    /// How long a key is remembered.
    fn key_ttl(&self) -> Duration {
        if self.config.key_ttl.is_zero() { REPLAY_TTL } else { self.config.key_ttl }
    }

    /// Answers the second use of a key.
    fn reuse(&self, first_use: FirstUse) -> Result<SandboxReply, SandboxRefusal> {
        if self.config.key_reuse != KeyReuse::Replayed && !self.config.key_ttl.is_zero() {
            return Err(SandboxRefusal::KeyUsed);
        }
        match first_use {
            FirstUse::Created(position) => Ok(self.created(position)),
            FirstUse::Duplicate => Err(SandboxRefusal::Duplicate),
            FirstUse::Blacklisted => Err(SandboxRefusal::Blacklisted),
            FirstUse::InvalidProgram => Err(SandboxRefusal::InvalidProgram),
        }
    }

    /// Creates the users of `list_grows`, as another client would while the list is read.
    fn grow(&mut self, now: Duration) {
        for _ in 0..self.config.list_grows {
            let email = format!("user{}@elsewhere.example", self.users.len());
            let user = NewUser {
                email: &email,
                first_name: "Another",
                last_name: "Client",
                program: SandboxProgram::Custodial,
            };
            // If the email is taken, the list doesn't grow this time.
            let _ = self.users.insert(now, &user);
        }
    }

    fn try_list(&mut self, now: Duration, request: &ListRequest<'_>) -> Result<SandboxReply, SandboxRefusal> {
        self.admit(now)?;
        self.authorize(request.authorization)?;
        if let Some(status) = self.config.list_refused {
            return Err(SandboxRefusal::ListRefused(status));
        }
        let (skip, limit) = parse_page(request.query)?;
        let limit = limit.unwrap_or(self.config.list_limit_default).min(self.config.list_limit_max);
        self.stats.listed += 1;
        let shuffle = self.config.seed.wrapping_add(self.stats.requests.list);
        let total = self.users.created_by(now, Duration::from_secs(self.config.list_lag_s));
        let page = Users::page(total, self.config.list_order, skip, limit, shuffle);
        let users = page.into_iter().filter_map(|position| self.view(position, now)).collect();
        Ok(SandboxReply::page(users, ReplyPagination { skip, limit, total }))
    }

    fn admit(&mut self, now: Duration) -> Result<(), SandboxRefusal> {
        let Some(limit) = self.config.rate_limit else {
            return Ok(());
        };
        if self.admitted.count(now) >= limit as usize {
            return Err(SandboxRefusal::Throttled { retry_after_s: self.config.retry_after_s });
        }
        self.admitted.push(now);
        Ok(())
    }

    fn authorize(&self, authorization: Option<&str>) -> Result<(), SandboxRefusal> {
        let is_known = authorization.and_then(bearer) == Some(self.config.api_key.expose_secret());
        match self.config.account {
            AccountState::KeyRevoked => Err(SandboxRefusal::Unauthorized),
            _ if !is_known => Err(SandboxRefusal::Unauthorized),
            AccountState::Suspended => Err(SandboxRefusal::Forbidden),
            AccountState::Ok | AccountState::WalletEmpty => Ok(()),
        }
    }

    fn view(&self, position: usize, now: Duration) -> Option<UserView<'_>> {
        self.users.view(position, now, self.epoch, &self.config)
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Assumed: a UUID in the usual notation of 36 characters, in upper or lower case.
fn parse_key(header: Option<&str>) -> Result<u128, SandboxRefusal> {
    let key = header.map(str::trim).filter(|key| !key.is_empty()).ok_or(SandboxRefusal::KeyMissing)?;
    match Uuid::try_parse(key) {
        Ok(uuid) if key.len() == 36 => Ok(uuid.as_u128()),
        _ => Err(SandboxRefusal::KeyMalformed),
    }
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split_once(';').map_or(content_type, |(media_type, _)| media_type);
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// `skip` (0 if absent) and `limit` of a list's query.
fn parse_page(query: &str) -> Result<(u64, Option<u32>), SandboxRefusal> {
    let (mut skip, mut limit) = (0, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "skip" => {
                skip = value.parse().map_err(|_| SandboxRefusal::Invalid("skip must be a number from 0".to_owned()))?;
            }
            "limit" => {
                let parsed = value.parse().ok().filter(|limit| *limit > 0);
                limit =
                    Some(parsed.ok_or_else(|| SandboxRefusal::Invalid("limit must be a number from 1".to_owned()))?);
            }
            _ => {}
        }
    }
    Ok((skip, limit))
}
