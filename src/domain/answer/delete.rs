//! What the answer to a deletion means.
//!
//! | HTTP answer | [`DeleteAnswer`] |
//! | --- | --- |
//! | 2xx with `data.deleted` = `true` | `Deleted` |
//! | an error of the API with the code `USER_NOT_FOUND` | `NotFound` |
//! | an error of the API with the code `ACTIVE_CARDS_EXIST` | `ActiveCards` |
//! | any other 2xx, "key already used" | `Other(Unknown)`: the user may have been deleted |
//! | anything else | `Other`, as for a creation; 404 is an account problem |

use serde_json::Value;

use super::{AccountReason, Answer, ApiReply, RefusalMarks, UnknownReason, account_problem, classify, salvage};
use crate::domain::Timestamp;

/// What an answer to a deletion means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteAnswer {
    /// The user is deleted.
    Deleted,
    /// The API says that there is no such user, as after an earlier deletion.
    NotFound,
    /// The user has cards, so it can't be deleted.
    ActiveCards,
    /// [`Answer::Rejected`], or a problem that a creation may have too.
    Other(Answer),
}

/// Source: the vendor's page on users (404) and the one on errors (400).
const USER_NOT_FOUND: &str = "USER_NOT_FOUND";

/// Source: the vendor's page on users (409).
const ACTIVE_CARDS_EXIST: &str = "ACTIVE_CARDS_EXIST";

impl DeleteAnswer {
    /// The partner has no such endpoint.
    pub const NOT_OFFERED: Self = Self::Other(Answer::Account(AccountReason::NotFound(404)));

    /// Its name in logs and labels.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::NotFound => "user_not_found",
            Self::ActiveCards => "active_cards",
            Self::Other(answer) => answer.code(),
        }
    }
}

/// Classifies the reply to a deletion. `now` is for a `Retry-After` that is a date.
pub(crate) fn classify_delete(reply: &ApiReply<'_>, marks: &RefusalMarks, now: Timestamp) -> DeleteAnswer {
    let json = serde_json::from_slice::<Value>(salvage::without_mark(reply.body)).unwrap_or_default();
    match reply.status {
        200..=299 if json.pointer("/data/deleted") == Some(&Value::Bool(true)) && !has_error(&json) => {
            return DeleteAnswer::Deleted;
        }
        200..=299 => {
            return DeleteAnswer::Other(match account_problem(reply) {
                Some(reason) => Answer::Account(reason),
                None => Answer::Unknown(UnknownReason::Unreadable),
            });
        }
        400..=499 if has_error(&json) => match json.get("message").and_then(Value::as_str) {
            Some(USER_NOT_FOUND) => return DeleteAnswer::NotFound,
            Some(ACTIVE_CARDS_EXIST) => return DeleteAnswer::ActiveCards,
            _ => {}
        },
        _ => {}
    }
    DeleteAnswer::Other(match classify(reply, marks, now) {
        // The next request has another key.
        Answer::KeyAlreadyUsed | Answer::Created { .. } => Answer::Unknown(UnknownReason::Unreadable),
        Answer::UserExists => {
            Answer::Rejected { status: reply.status, code: "USER_EXISTS".to_owned(), text: String::new() }
        }
        answer => answer,
    })
}

/// Returns whether it is an error in the API's own shape.
fn has_error(json: &Value) -> bool {
    json.get("status").and_then(Value::as_str).is_some_and(salvage::is_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> DeleteAnswer {
        let content_type = Some(if body.starts_with('<') { "text/html" } else { "application/json" });
        let reply = ApiReply { status, retry_after: None, content_type, date: None, body: body.as_bytes() };
        let marks = RefusalMarks {
            key_used_words: vec!["already used".to_owned()],
            user_exists_codes: vec!["DUP_USER".to_owned()],
            ..RefusalMarks::default()
        };
        classify_delete(&reply, &marks, Timestamp::from_unix_ms(0))
    }

    fn error(code: &str) -> String {
        format!(r#"{{"status":"error","message":"{code}","data":{{"error":"no"}}}}"#)
    }

    #[test]
    fn only_the_apis_own_answers_prove_that_a_user_is_gone() {
        assert_eq!(answer(200, r#"{"status":"success","data":{"deleted":true}}"#), DeleteAnswer::Deleted);
        assert_eq!(answer(200, r#"{"data":{"deleted":true}}"#), DeleteAnswer::Deleted);
        for status in [400, 404] {
            assert_eq!(answer(status, &error("USER_NOT_FOUND")), DeleteAnswer::NotFound);
        }
        assert_eq!(answer(409, &error("ACTIVE_CARDS_EXIST")), DeleteAnswer::ActiveCards);
        let unknown = DeleteAnswer::Other(Answer::Unknown(UnknownReason::Unreadable));
        for body in
            ["{}", "", r#"{"data":{"deleted":false}}"#, r#"{"data":{"deleted":true"#, r#"{"data":{"deleted":1}}"#]
        {
            assert_eq!(answer(200, body), unknown, "{body}");
        }
        let not_found = DeleteAnswer::Other(Answer::Account(AccountReason::NotFound(404)));
        for body in ["<html>", r#"{"message":"USER_NOT_FOUND"}"#, &error("NOT_FOUND"), r#"{"error":"USER_NOT_FOUND"}"#]
        {
            assert_eq!(answer(404, body), not_found, "{body}");
        }
        assert_eq!(answer(200, "<html>"), DeleteAnswer::Other(Answer::Account(AccountReason::NotTheApi)));
    }

    #[test]
    fn every_other_answer_means_what_it_means_for_a_creation() {
        assert_eq!(answer(400, &error("idempotency key already used")).code(), "unreadable_answer");
        assert_eq!(answer(402, &error("X")), DeleteAnswer::Other(Answer::Account(AccountReason::PaymentRequired)));
        assert_eq!(answer(500, "").code(), "server_error");
        assert_eq!(answer(429, "{}"), DeleteAnswer::Other(Answer::Throttled { retry_after: None }));
        assert!(matches!(answer(400, &error("DUP_USER")), DeleteAnswer::Other(Answer::Rejected { .. })));
        assert!(matches!(answer(409, &error("USER_LOCKED")), DeleteAnswer::Other(Answer::Rejected { .. })));
    }
}
