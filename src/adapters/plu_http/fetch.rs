//! Sends a request and reads the whole answer, up to a limit.

use reqwest::header::{AGE, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Client, Request, Response};

use crate::adapters::plu_http::decode::decoded;
use crate::adapters::plu_http::request_failure::RequestFailure;
use crate::domain::Timestamp;
use crate::domain::answer::ApiReply;
use crate::failpoint;

/// An answer, read up to the limit.
pub(super) struct FetchedAnswer {
    pub(super) status: u16,
    headers: HeaderMap,
    /// `Date` of the answer, by the partner's clock. `None` if a cache answered.
    pub(super) date: Option<Timestamp>,
    body: Vec<u8>,
    /// Why the end of the body is missing, if it is.
    pub(super) cut_off: Option<RequestFailure>,
}

impl FetchedAnswer {
    /// Returns the answer if its end isn't missing.
    ///
    /// # Errors
    /// Why the end is missing.
    pub(super) fn whole(self) -> Result<Self, RequestFailure> {
        let Self { cut_off: Some(failure), .. } = self else { return Ok(self) };
        Err(failure)
    }

    pub(super) fn reply(&self) -> ApiReply<'_> {
        let Self { status, headers, date, body, .. } = self;
        let (retry_after, content_type) = (text(headers, RETRY_AFTER), text(headers, CONTENT_TYPE));
        ApiReply { status: *status, retry_after, content_type, date: *date, body }
    }
}

pub(super) async fn fetch(
    client: &Client,
    request: Request,
    body_bytes_max: usize,
) -> Result<FetchedAnswer, RequestFailure> {
    let mut response = client.execute(request).await?;
    failpoint::pass("before_answer_is_read");
    let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
    let (body, cut_off) = read_body(response, body_bytes_max).await;
    let body = decoded(body, text(&headers, CONTENT_ENCODING), body_bytes_max);
    // A cache sends the date at which it received the answer.
    let is_cached = text(&headers, AGE).is_some_and(|age| age.trim() != "0");
    let date = text(&headers, DATE).filter(|_| !is_cached).and_then(Timestamp::parse_http);
    Ok(FetchedAnswer { status, headers, date, body, cut_off })
}

/// Reads a body up to the limit. The rest is not read, because a longer answer isn't the API's. Returns what arrived,
/// and why the end is missing, if it is.
async fn read_body(mut response: Response, bytes_max: usize) -> (Vec<u8>, Option<RequestFailure>) {
    let mut body = Vec::new();
    while body.len() < bytes_max {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(bytes_max - body.len())]),
            Ok(None) => break,
            Err(error) => return (body, Some(after_status(error.into()))),
        }
    }
    (body, None)
}

/// A request whose answer has begun was sent, whatever ended its connection.
fn after_status(failure: RequestFailure) -> RequestFailure {
    match failure {
        RequestFailure::NotSent(_) => RequestFailure::ConnectionLost,
        failure => failure,
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
