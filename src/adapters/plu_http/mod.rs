//! The partner over HTTP: one client with a connection pool for creations and the user list.
//!
//! What an answer means is decided in [`crate::domain::answer`]; here it is fetched, within limits of time and
//! size, and a failure is told apart by one question: may the request have reached the partner?

pub(crate) mod clocks;
mod lost;

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AGE, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request, Response, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use self::clocks::Clocks;
use self::lost::Lost;
use crate::clock::Clock;
use crate::domain::answer::{RefusalMarks, Reply, UnknownReason, about_everybody, classify};
use crate::domain::decide::FoundUser;
use crate::domain::{AccountReason, Answer, IdempotencyKey, NameMark, Timestamp};
use crate::failpoint;
use crate::ports::{ListError, Page, PartnerApi, UserList};
use crate::telemetry::{ApiAnswered, IntoLabel, Metrics, PageRead};

/// Idle connections are closed after this, before a load balancer's usual minute does it under a request.
const POOL_IDLE: Duration = Duration::from_secs(50);

const JSON: HeaderValue = HeaderValue::from_static("application/json");

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Most headers of a request, those that the client adds included.
const HEADERS_MAX: usize = 8;

/// How the partner is reached.
#[derive(Debug, Clone)]
pub struct PluHttpConfig {
    /// Base URL, such as `https://services.getplu.com/api`.
    pub base_url: Url,
    /// Sent as `Authorization: Bearer`.
    pub api_key: SecretString,
    /// Longest time to a connection.
    pub connect_timeout: Duration,
    /// Longest time from the start of a request to the end of its answer.
    pub timeout: Duration,
    /// Longest answer that is read, in bytes.
    pub body_bytes_max: usize,
    /// Users asked for per page.
    pub page_size: u32,
    /// How "key already used" and "user exists" are recognised.
    pub refusals: RefusalMarks,
    /// By how much the partner's clock may differ from ours without being told of.
    pub clock_skew: Duration,
}

/// The partner.
#[derive(Debug)]
pub struct PluHttp {
    client: Client,
    /// `Authorization`. Marked as sensitive, so that its `Debug` output doesn't show it.
    bearer: RwLock<HeaderValue>,
    create_url: Url,
    list_url: Url,
    body_bytes_max: usize,
    page_size: u32,
    refusals: RefusalMarks,
    clocks: Clocks,
    clock: Clock,
    metrics: Metrics,
}

impl PluHttp {
    /// A client; nothing is sent yet. The process must have a rustls crypto provider installed.
    ///
    /// # Errors
    /// In words, where the base URL or the key can't be used.
    pub fn new(config: PluHttpConfig, clock: Clock, metrics: Metrics) -> Result<Self, String> {
        let bearer = bearer(&config.api_key)?;
        let builder = if config.base_url.scheme() == "http" {
            // Plain HTTP is for this machine only: nothing to verify, and no proxy may get to see it.
            Client::builder().no_proxy().tls_certs_only([])
        } else {
            Client::builder()
        };
        let client = builder
            .user_agent(concat!("plu-onboard/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            .timeout(config.timeout)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_nodelay(true)
            // A redirected POST would be sent twice, or to somebody else.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
                format!(
                    "no HTTPS connection can be made: {error}{cause}; if this machine has no trusted certificates, \
                     install the package ca-certificates"
                )
            })?;
        Ok(Self {
            client,
            bearer: RwLock::new(bearer),
            create_url: endpoint(&config.base_url, "v2/partner/card/users")?,
            list_url: endpoint(&config.base_url, "v1/partner/card/users")?,
            body_bytes_max: config.body_bytes_max,
            page_size: config.page_size,
            refusals: config.refusals,
            clocks: Clocks::new(config.clock_skew),
            clock,
            metrics,
        })
    }

    /// Requests from now on carry this key. Whether it is another one.
    ///
    /// # Errors
    /// In words, where it can't be used; the old one stays.
    pub fn set_api_key(&self, key: &SecretString) -> Result<bool, String> {
        let new = bearer(key)?;
        let mut current = self.bearer.write().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut *current, new.clone()) != new)
    }

    /// The headers of every request, with room for the others: a map that grows is built anew.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(HEADERS_MAX);
        headers.insert(AUTHORIZATION, self.bearer.read().unwrap_or_else(PoisonError::into_inner).clone());
        headers
    }

    async fn fetch(&self, request: Request) -> Result<Fetched, Lost> {
        let mut response = self.client.execute(request).await.map_err(|error| Lost::from(&error))?;
        failpoint::pass("before_answer_is_read");
        let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
        let body = read_body(response, self.body_bytes_max).await.map_err(|error| Lost::from(&error))?;
        // A cache on the way repeats the date of when it got the answer.
        let is_cached = text(&headers, AGE).is_some_and(|age| age.trim() != "0");
        let date = text(&headers, DATE).filter(|_| !is_cached).and_then(Timestamp::parse_http);
        Ok(Fetched { status, headers, date, body })
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
                let answer = classify(&fetched.reply(), &self.refusals, answered_at);
                // Trouble may come from somebody else, with another clock.
                if let (Some(date), None) = (fetched.date, answer.trouble()) {
                    self.clocks.compare(date, started_at, answered_at, &self.metrics);
                }
                (answer, Some(fetched.status))
            }
            Err(Lost::NotSent(why)) => (Answer::NotSent(why), None),
            Err(Lost::Timeout) => (Answer::Unknown(UnknownReason::Timeout), None),
            Err(Lost::Connection) => (Answer::Unknown(UnknownReason::ConnectionLost), None),
        };
        let told = ApiAnswered {
            answer: (answer.label(), answer.trouble()),
            status,
            duration: start.elapsed(),
            key: Some(key.uuid()),
            at: answered_at,
        };
        told.emit(&self.metrics);
        if let Some(trace) = trace {
            self.metrics.spans.request(trace, (started_at, answered_at), answer.label(), status);
        }
        answer
    }
}

impl UserList for PluHttp {
    async fn page(&self, skip: u64) -> Result<Page, ListError> {
        let mut url = self.list_url.clone();
        url.query_pairs_mut().append_pair("skip", &skip.to_string()).append_pair("limit", &self.page_size.to_string());
        let (start, asked_at) = (Instant::now(), self.clock.now());
        let mut request = Request::new(Method::GET, url);
        *request.headers_mut() = self.headers();
        let fetched = self.fetch(request).await;
        failpoint::pass("during_look_up");
        let answered_at = self.clock.now();
        let (page, status) = match fetched {
            Ok(fetched) => {
                // Before the times in it are reckoned: a worker may look somebody up before it creates anybody.
                if let (Some(date), 200..=299) = (fetched.date, fetched.status) {
                    self.clocks.compare(date, asked_at, answered_at, &self.metrics);
                }
                (read_page(&fetched.reply(), &self.clocks, answered_at), Some(fetched.status))
            }
            Err(Lost::NotSent(why)) => (Err(ListError::Account(AccountReason::Unreachable(why))), None),
            Err(Lost::Timeout) => (Err(ListError::Failed("timeout")), None),
            Err(Lost::Connection) => (Err(ListError::Failed("connection_lost")), None),
        };
        let read = match &page {
            Ok(_) => PageRead::Read,
            Err(ListError::Throttled(_)) => PageRead::Throttled,
            Err(ListError::Account(reason)) => PageRead::Account(*reason),
            Err(ListError::Failed(_)) => PageRead::Failed,
        };
        let answer = (read.label(), read.trouble());
        ApiAnswered { answer, status, duration: start.elapsed(), key: None, at: answered_at }.emit(&self.metrics);
        page
    }
}

fn bearer(key: &SecretString) -> Result<HeaderValue, String> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()))
        .map_err(|_| "the API key holds characters that no HTTP header can carry".to_owned())?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

struct Fetched {
    status: u16,
    headers: HeaderMap,
    /// When it was answered, by the partner's clock.
    date: Option<Timestamp>,
    body: Vec<u8>,
}

impl Fetched {
    fn reply(&self) -> Reply<'_> {
        let Self { status, headers, date, body } = self;
        let (retry_after, content_type) = (text(headers, RETRY_AFTER), text(headers, CONTENT_TYPE));
        Reply { status: *status, retry_after, content_type, date: *date, body }
    }
}

/// The text of a header.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The value of a header that holds nothing but visible ASCII.
fn visible(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| unreachable!("visible ASCII fits into a header"))
}

/// Reads a body up to the limit. What lies beyond is not read: such an answer is unreadable anyway.
async fn read_body(mut response: Response, bytes_max: usize) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = bytes_max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == bytes_max {
            break;
        }
    }
    Ok(body)
}

fn endpoint(base: &Url, path: &str) -> Result<Url, String> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| format!("the base URL {base} can't have a path"))?
        .pop_if_empty()
        .extend(path.split('/'));
    Ok(url)
}

#[derive(Deserialize)]
struct ListBody {
    data: ListData,
}

#[derive(Deserialize)]
struct ListData {
    /// Each is read by itself, so that an odd one doesn't hide the others.
    users: Vec<Value>,
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    total: Value,
}

/// A user as the list shows them; `None` without an email or an id.
fn listed(entry: &Value, clocks: &Clocks) -> Option<(String, FoundUser)> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let service_id = match entry.get("serviceId")? {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    let created_at = text("createdAt").and_then(Timestamp::parse).map(|at| clocks.ours(at));
    let name = text("firstName").zip(text("lastName")).and_then(|(first, last)| NameMark::of(first, last));
    Some((text("email")?.to_owned(), FoundUser { service_id, created_at, name }))
}

fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// What a reply to a question for a page of the user list means, in times of our clock. `now` serves a `Retry-After` that is
/// a date.
pub(crate) fn read_page(reply: &Reply<'_>, clocks: &Clocks, now: Timestamp) -> Result<Page, ListError> {
    match (about_everybody(reply), reply.status) {
        // An empty wallet says nothing about reading, which is free.
        (Some(reason), _) if reason != AccountReason::PaymentRequired => Err(ListError::Account(reason)),
        (_, 200..=299) => page(reply.body, clocks),
        (_, 429) => Err(ListError::Throttled(reply.retry_after(now))),
        (_, 408 | 500..) => Err(ListError::Failed("server_error")),
        _ => Err(ListError::Failed("refused")),
    }
}

fn page(body: &[u8], clocks: &Clocks) -> Result<Page, ListError> {
    const UNREADABLE: ListError = ListError::Failed("unreadable_answer");
    let ListBody { data } = serde_json::from_slice(body).map_err(|_| UNREADABLE)?;
    let total = whole_number(&data.pagination.total).ok_or(UNREADABLE)?;
    let users: Vec<_> = data.users.iter().filter_map(|entry| listed(entry, clocks)).collect();
    let unusable = (data.users.len() - users.len()) as u64;
    Ok(Page { users, unusable, total })
}

#[cfg(test)]
mod tests;
