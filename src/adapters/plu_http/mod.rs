//! The partner's API over HTTP: one client with a connection pool, for creations and for the user list.
//!
//! `domain::answer` decides what an answer means. This module fetches answers, within limits of time and size.
//! If there is no answer, it decides whether the request may have reached the partner.
//!
//! | module | what it does |
//! | --- | --- |
//! | `client`, `proxy` | the HTTP client, and its proxy |
//! | `fetch`, `decode` | sends a request and reads the answer |
//! | `delete` | sends a deletion |
//! | `request_failure` | why there is no answer |
//! | `user_list` | reads a page of the user list |
//! | `partner_clock` | difference between the partner's clock and ours |
//!
//! **Invariants:** a request is sent once: no retry and no redirect; the API key is in no log line and no `Debug`
//! output.

mod client;
mod decode;
mod delete;
mod fetch;
mod partner_clock;
mod proxy;
mod request_failure;
mod user_list;

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use url::Url;

use self::client::{ClientSettings, HttpClient};
use self::fetch::{FetchedAnswer, fetch};
pub(crate) use self::partner_clock::PartnerClock;
use self::request_failure::RequestFailure;
pub(crate) use self::user_list::read_page;
use crate::clock::Clock;
use crate::domain::answer::{DeleteAnswer, RefusalMarks, UnknownReason, classify};
use crate::domain::{AccountReason, Answer, IdempotencyKey, ServiceId};
use crate::failpoint;
use crate::ports::{ListError, PartnerApi, UserList, UserListPage};
use crate::telemetry::{ApiAnswered, Metrics, UserListPageResult};

/// Longest answer that is read, in bytes; bounds memory. The longest is a page of the user list: 1 MiB is twice the
/// largest page that is asked for, 500 users of 1 kB each.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Not compressed: an answer is short, and its beginning is of use even if its end is lost.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Capacity for the headers of a request, including those that the client adds.
const HEADERS_CAPACITY: usize = 8;

/// Settings of the client.
#[derive(Debug, Clone)]
pub struct PluHttpConfig {
    /// Base URL, for example `https://services.getplu.com/api`.
    pub base_url: Url,
    /// Sent as `Authorization: Bearer`.
    pub api_key: SecretString,
    /// Time limit for a connection.
    pub connect_timeout: Duration,
    /// Time limit from the start of a request to the end of its answer.
    pub timeout: Duration,
    /// Longest answer that is read, in bytes.
    pub body_bytes_max: usize,
    /// How "key already used" and "user exists" are recognised.
    pub refusals: RefusalMarks,
    /// Allowed difference between the partner's clock and ours.
    pub clock_skew: Duration,
}

/// Client of the partner's API.
#[derive(Debug)]
pub struct PluHttp {
    http: HttpClient,
    /// `Authorization`. Marked as sensitive, so that `Debug` output doesn't show it.
    bearer: RwLock<HeaderValue>,
    create_url: Url,
    list_url: Url,
    body_bytes_max: usize,
    refusals: RefusalMarks,
    partner_clock: PartnerClock,
    clock: Clock,
    metrics: Metrics,
}

impl PluHttp {
    /// Creates a client. Nothing is sent yet. The process must have a rustls crypto provider installed.
    ///
    /// # Errors
    /// A message if the base URL, the key or the proxy of the environment can't be used.
    pub fn new(config: PluHttpConfig, clock: Clock, metrics: Metrics) -> Result<Self, String> {
        let bearer = bearer(&config.api_key)?;
        let http = HttpClient::new(ClientSettings {
            is_plain: config.base_url.scheme() == "http",
            connect_timeout: config.connect_timeout,
            timeout: config.timeout,
        })?;
        Ok(Self {
            http,
            bearer: RwLock::new(bearer),
            create_url: endpoint(&config.base_url, "v2/partner/card/users")?,
            list_url: endpoint(&config.base_url, "v1/partner/card/users")?,
            body_bytes_max: config.body_bytes_max,
            refusals: config.refusals,
            partner_clock: PartnerClock::new(config.clock_skew),
            clock,
            metrics,
        })
    }

    /// Uses this key for all further requests. Returns whether it differs from the old one.
    ///
    /// # Errors
    /// A message if the key can't be used; the old one is kept.
    pub fn set_api_key(&self, key: &SecretString) -> Result<bool, String> {
        let new = bearer(key)?;
        let mut current = self.bearer.write().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut *current, new.clone()) != new)
    }

    /// Returns the headers of every request, with capacity for the others, so that the map needn't grow.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(HEADERS_CAPACITY);
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        headers.insert(AUTHORIZATION, self.bearer.read().unwrap_or_else(PoisonError::into_inner).clone());
        headers
    }

    async fn fetch(&self, request: Request) -> Result<FetchedAnswer, RequestFailure> {
        let used = self.http.get();
        let fetched = fetch(&used.client, request, self.body_bytes_max).await;
        let failure = fetched.as_ref().map_or_else(Some, |answer| answer.cut_off.as_ref());
        self.http.ended(&used, matches!(failure, Some(RequestFailure::Timeout)));
        fetched
    }
}

impl PartnerApi for PluHttp {
    async fn create(&self, key: &IdempotencyKey, body: &Bytes) -> Answer {
        let trace = self.metrics.spans.for_request();
        let mut headers = self.headers();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(IDEMPOTENCY_KEY, visible(key.to_string()));
        if let Some(trace) = &trace {
            headers.insert(TRACEPARENT, visible(trace.to_string()));
        }
        let mut request = Request::new(Method::POST, self.create_url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.clone().into());
        let (start, started_at) = (Instant::now(), self.clock.now());
        failpoint::pass("before_send");
        let fetched = self.fetch(request).await;
        failpoint::pass("after_answer");
        let answered_at = self.clock.now();
        let (answer, status) = match fetched {
            Ok(fetched) => {
                let answer = match (classify(&fetched.reply(), &self.refusals, answered_at), &fetched.cut_off) {
                    (answer, Some(failure)) if answer.needs_its_end() => without_answer(failure),
                    (answer, _) => answer,
                };
                // An error may come from a proxy, with another clock.
                if let (Some(date), None) = (fetched.date, answer.error_code()) {
                    self.partner_clock.compare(date, started_at, answered_at, &self.metrics);
                }
                (answer, Some(fetched.status))
            }
            Err(failure) => (without_answer(&failure), None),
        };
        let answered = ApiAnswered {
            answer: (answer.code(), answer.error_code()),
            status,
            duration: start.elapsed(),
            key: Some(key.uuid()),
            at: answered_at,
        };
        answered.emit(&self.metrics);
        if let Some(trace) = trace {
            self.metrics.spans.request(trace, (started_at, answered_at), answer.code(), status);
        }
        answer
    }

    async fn delete(&self, key: &IdempotencyKey, user: &ServiceId) -> DeleteAnswer {
        delete::delete(self, key, user).await
    }
}

impl UserList for PluHttp {
    async fn page(&self, skip: u64, limit: u32) -> Result<UserListPage, ListError> {
        let mut url = self.list_url.clone();
        url.query_pairs_mut().append_pair("skip", &skip.to_string()).append_pair("limit", &limit.to_string());
        let (start, asked_at) = (Instant::now(), self.clock.now());
        let mut request = Request::new(Method::GET, url);
        *request.headers_mut() = self.headers();
        let fetched = self.fetch(request).await.and_then(FetchedAnswer::whole);
        failpoint::pass("during_look_up");
        let answered_at = self.clock.now();
        let (page, status) = match fetched {
            Ok(fetched) => {
                // Compared before the times of the page are converted: the first request of a worker may be this one.
                if let (Some(date), 200..=299) = (fetched.date, fetched.status) {
                    self.partner_clock.compare(date, asked_at, answered_at, &self.metrics);
                }
                (read_page(&fetched.reply(), &self.partner_clock, answered_at), Some(fetched.status))
            }
            Err(RequestFailure::NotSent(why)) => (Err(ListError::Account(AccountReason::Unreachable(why))), None),
            Err(RequestFailure::Timeout) => (Err(ListError::Failed("timeout")), None),
            Err(RequestFailure::ConnectionLost) => (Err(ListError::Failed("connection_lost")), None),
        };
        let read = match &page {
            Ok(_) => UserListPageResult::Read,
            Err(ListError::Throttled(_)) => UserListPageResult::Throttled,
            Err(ListError::Account(reason)) => UserListPageResult::Account(*reason),
            Err(ListError::Refused | ListError::Failed(_)) => UserListPageResult::Failed,
        };
        let answer = (read.code(), read.error_code());
        ApiAnswered { answer, status, duration: start.elapsed(), key: None, at: answered_at }.emit(&self.metrics);
        page
    }
}

/// What it means that there is no answer, or none that can be used without its end.
const fn without_answer(failure: &RequestFailure) -> Answer {
    match failure {
        RequestFailure::NotSent(why) => Answer::NotSent(*why),
        RequestFailure::Timeout => Answer::Unknown(UnknownReason::Timeout),
        RequestFailure::ConnectionLost => Answer::Unknown(UnknownReason::ConnectionLost),
    }
}

fn bearer(key: &SecretString) -> Result<HeaderValue, String> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()))
        .map_err(|_| "the API key holds characters that no HTTP header can carry".to_owned())?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

/// Returns the header value for a text of visible ASCII characters.
fn visible(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| unreachable!("visible ASCII fits into a header"))
}

fn endpoint(base: &Url, path: &str) -> Result<Url, String> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| format!("the base URL {base} can't have a path"))?
        .pop_if_empty()
        .extend(path.split('/'));
    Ok(url)
}

#[cfg(test)]
mod tests;
