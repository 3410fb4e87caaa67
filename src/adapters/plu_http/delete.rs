//! Sends a deletion: `DELETE /v1/partner/card/users/{serviceId}`.

use reqwest::{Method, Request};
use tokio::time::Instant;

use super::{IDEMPOTENCY_KEY, PluHttp, endpoint, visible, without_answer};
use crate::domain::answer::{DeleteAnswer, classify_delete};
use crate::domain::{Answer, IdempotencyKey, ServiceId};
use crate::failpoint;
use crate::telemetry::DeletionAnswered;

pub(super) async fn delete(api: &PluHttp, key: &IdempotencyKey, user: &ServiceId) -> DeleteAnswer {
    // A base URL that can have no path is refused at the start.
    let Ok(url) = endpoint(&api.list_url, user.as_str()) else { return DeleteAnswer::NOT_OFFERED };
    let mut headers = api.headers();
    headers.insert(IDEMPOTENCY_KEY, visible(key.to_string()));
    let mut request = Request::new(Method::DELETE, url);
    *request.headers_mut() = headers;
    let start = Instant::now();
    failpoint::pass("before_delete");
    let fetched = api.fetch(request).await;
    failpoint::pass("after_delete");
    let answered_at = api.clock.now();
    let (answer, status) = match fetched {
        Ok(fetched) => {
            let answer = match (classify_delete(&fetched.reply(), &api.refusals, answered_at), &fetched.cut_off) {
                (DeleteAnswer::Other(answer), Some(failure)) if answer.needs_its_end() => {
                    DeleteAnswer::Other(without_answer(failure))
                }
                (answer, _) => answer,
            };
            (answer, Some(fetched.status))
        }
        Err(failure) => (DeleteAnswer::Other(without_answer(&failure)), None),
    };
    let error_code = if let DeleteAnswer::Other(answer) = &answer { Answer::error_code(answer) } else { None };
    let answer_code = (answer.code(), error_code);
    DeletionAnswered { answer: answer_code, status, duration: start.elapsed(), at: answered_at }.emit(&api.metrics);
    answer
}
