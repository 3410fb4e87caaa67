//! Sends a request and reads the whole answer, up to a limit.

use reqwest::header::{AGE, CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Client, Request, Response};

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
}

impl FetchedAnswer {
    pub(super) fn reply(&self) -> ApiReply<'_> {
        let Self { status, headers, date, body } = self;
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
    let body = read_body(response, body_bytes_max).await?;
    // A cache sends the date at which it received the answer.
    let is_cached = text(&headers, AGE).is_some_and(|age| age.trim() != "0");
    let date = text(&headers, DATE).filter(|_| !is_cached).and_then(Timestamp::parse_http);
    Ok(FetchedAnswer { status, headers, date, body })
}

/// Reads a body up to the limit. The rest is not read, because a longer answer is unreadable anyway.
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

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
