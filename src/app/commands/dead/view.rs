//! One dead letter as text or JSON.
//!
//! **Invariant:** personal data is shown only on request; otherwise a message is reduced to the names of its known
//! members. Control characters in a message are escaped, because they could rewrite the terminal.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::domain::dead_letter::{DELIVERY_LIMIT, EXPIRED};
use crate::domain::decide::{ATTEMPTS_EXHAUSTED, History, NOT_RECONCILED, no_definite_answer};
use crate::domain::private::shown_id;
use crate::domain::{DeadLetter, Field, IdempotencyKey, Job, Lane, Problem, Timestamp};

/// Escapes control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { char.escape_default().to_string() } else { char.to_string() })
        .collect()
}

/// An upstream's id; hidden if it may hold personal data, unless `reveals`.
pub(super) fn id_text(id: &str, reveals: bool) -> String {
    if reveals { printable(id) } else { shown_id(id).to_owned() }
}

pub(super) fn time_text(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

/// The members that hold no personal data, as JSON.
pub(super) fn outline(dead_letter: &DeadLetter, reveals: bool) -> Value {
    let history = &dead_letter.history;
    json!({
        "id": dead_letter.id,
        "reason": dead_letter.reason,
        "deadAt": dead_letter.dead_at,
        "lane": dead_letter.lane,
        "attempts": history.attempts,
        "jobId": dead_letter.job_id().map(|id| id_text(&id, reveals)),
        "enqueuedAt": history.enqueued_at,
        "firstSentAt": history.first_sent_at,
    })
}

/// Everything about a dead letter, as JSON.
pub(super) fn as_json(dead_letter: &DeadLetter, reveals: bool) -> String {
    let mut value = outline(dead_letter, reveals);
    let message = DeadLetterBody::parse(&dead_letter.body);
    value["batchId"] = json!(message.batch_id.as_deref().map(|id| id_text(id, reveals)));
    value["source"] = json!(message.source);
    value["errors"] = json!(*problems(dead_letter, reveals));
    value["message"] = message.content(dead_letter, reveals);
    format!("{value:#}\n")
}

/// Everything about a dead letter, as text.
pub(super) fn as_text(dead_letter: &DeadLetter, reveals: bool) -> String {
    let message = DeadLetterBody::parse(&dead_letter.body);
    let history = &dead_letter.history;
    let mut text = String::new();
    let mut put = |name: &str, value: &str| text += &format!("{name:<12}{}\n", printable(value));
    put("id", &dead_letter.id);
    put("reason", &dead_letter.reason);
    for Problem { field, code, message } in problems(dead_letter, reveals).iter() {
        let field = field.as_ref().map_or_else(String::new, |field| format!("{field}: "));
        put("", &format!("{field}{code}: {message}"));
    }
    put("dead since", &time_text(dead_letter.dead_at));
    put("lane", dead_letter.lane.map_or("-", Lane::name));
    put("attempts", &history.attempts.to_string());
    put("queued", &history.enqueued_at.to_string());
    put("first sent", &first_sent(&dead_letter.history));
    put("jobId", &dead_letter.job_id().map_or_else(|| "-".to_owned(), |id| id_text(&id, reveals)));
    put("batchId", &message.batch_id.as_deref().map_or_else(|| "-".to_owned(), |id| id_text(id, reveals)));
    put("source", message.source.as_deref().unwrap_or("-"));
    let content = match message.content(dead_letter, reveals) {
        Value::String(text) => printable(&text),
        content => format!("{content:#}").lines().map(printable).collect::<Vec<_>>().join("\n"),
    };
    text += &format!("message\n{content}\n");
    if !reveals {
        text += "Personal data is hidden: --reveal shows it.\n";
    }
    text
}

/// When the job was first sent. The time is recorded before the request leaves. For a job that RabbitMQ dead-lettered,
/// it is the time when the job was enqueued.
fn first_sent(history: &History) -> String {
    match history.first_sent_at {
        None => "-".to_owned(),
        Some(at) if history.attempts == 0 => format!("perhaps, {at} or later"),
        Some(at) => format!("{at} or later"),
    }
}

/// The problems on record. RabbitMQ stores a code only. For a message that isn't a job, the problems are found by
/// parsing it again; they may quote the names of unknown members, so they are shown only if `reveals`.
fn problems(dead_letter: &DeadLetter, reveals: bool) -> Cow<'_, [Problem]> {
    if !dead_letter.problems.is_empty() {
        return Cow::Borrowed(&dead_letter.problems);
    }
    match Job::parse(&dead_letter.body) {
        Err(invalid) if reveals => Cow::Owned(invalid.problems),
        job => {
            let text = explain_reason(dead_letter, job.is_ok());
            Cow::Owned(text.map(|text| Problem::whole(&dead_letter.reason, text)).into_iter().collect())
        }
    }
}

/// Explains a reason of which only the code is on record.
fn explain_reason(dead_letter: &DeadLetter, is_job: bool) -> Option<String> {
    let text = match dead_letter.reason.as_str() {
        ATTEMPTS_EXHAUSTED | NOT_RECONCILED => {
            let failed_at = dead_letter.dead_at.unwrap_or(dead_letter.history.enqueued_at);
            return Some(no_definite_answer(&dead_letter.history, failed_at));
        }
        "OUTLIER_JOB" => {
            "the API answered it repeatedly as it answers problems of the account, while other jobs succeeded: \
             something between here and the API, such as a firewall, may reject its data"
        }
        DELIVERY_LIMIT => {
            "RabbitMQ dead-lettered it after too many deliveries, each of which ended with the worker or the \
             connection; the job may be the cause. It has no event: retry it, and it gets one"
        }
        EXPIRED => {
            "it expired (an expiration from its upstream, or a policy of the broker) before a worker took it. It has \
             no event: retry it, which requeues it without an expiration, and it gets one"
        }
        "MESSAGE_TOO_LARGE" => {
            "it is longer than queue.message_bytes_max: shorten its metadata at the upstream, or raise that setting \
             and retry it"
        }
        _ if !is_job => "it isn't a job: correct its upstream; --reveal shows what is wrong with it",
        _ => return None,
    };
    Some(text.to_owned())
}

/// The body of a dead letter, parsed as far as possible.
struct DeadLetterBody<'b> {
    body: &'b [u8],
    object: Option<Map<String, Value>>,
    batch_id: Option<String>,
    source: Option<String>,
}

impl<'b> DeadLetterBody<'b> {
    fn parse(body: &'b [u8]) -> Self {
        let object: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
        let member = |name: &str| object.as_ref().and_then(|object| object.get(name));
        let batch_id = member("batchId").and_then(Value::as_str).map(str::to_owned);
        let source = member("source").and_then(|source| {
            Some(format!("{}, line {}", source.get("file")?.as_str()?, source.get("line")?.as_u64()?))
        });
        Self { body, object, batch_id, source }
    }

    /// The message, or only the names of its known members.
    fn content(&self, dead_letter: &DeadLetter, reveals: bool) -> Value {
        match &self.object {
            Some(object) if reveals => Value::Object(object.clone()),
            Some(object) => Value::Object(self.hidden(object, dead_letter)),
            None if reveals => Value::String(String::from_utf8_lossy(self.body).into_owned()),
            None => Value::String(format!("{} bytes, not a JSON object", self.body.len())),
        }
    }

    /// The message without personal data. An upstream may name members after people, so only known names are shown. Of
    /// the values, only those that are shown above the message are shown here.
    fn hidden(&self, object: &Map<String, Value>, dead_letter: &DeadLetter) -> Map<String, Value> {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let job_id = dead_letter.job_id().filter(|id| text("jobId") == Some(id));
        let key = text("idempotencyKey").and_then(IdempotencyKey::parse).map(|key| key.to_string());
        let known = [
            ("jobId", job_id.map(|id| id_text(&id, false))),
            ("batchId", self.batch_id.as_deref().map(|id| id_text(id, false))),
            ("idempotencyKey", key),
            ("source", self.source.clone()),
            ("metadata", None),
            ("user", None),
        ];
        let mut members = member_names(object, |name| known.iter().any(|(known, _)| *known == name));
        for (name, value) in known {
            if let (Some(member), Some(value)) = (members.get_mut(name), value) {
                *member = Value::String(value);
            }
        }
        if let Some(Value::Object(user)) = object.get("user") {
            let is_field = |name: &str| Field::from_name(name).is_some();
            members.insert("user".to_owned(), Value::Object(member_names(user, is_field)));
        }
        members
    }
}

/// The known names with hidden values, and the number of other members.
fn member_names(object: &Map<String, Value>, is_known: impl Fn(&str) -> bool) -> Map<String, Value> {
    let (known, unknown): (Vec<_>, Vec<_>) = object.keys().partition(|name| is_known(name));
    let hidden = |name: &String| (name.clone(), Value::String("[hidden]".to_owned()));
    let mut members: Map<String, Value> = known.into_iter().map(hidden).collect();
    if !unknown.is_empty() {
        members.insert("(unknown members)".to_owned(), json!(unknown.len()));
    }
    members
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::app::commands::dead) fn dead_letter(body: &str) -> DeadLetter {
        DeadLetter {
            id: "0123456789abcdef".to_owned(),
            reason: "MALFORMED_JOB".to_owned(),
            dead_at: Some(Timestamp::from_unix_ms(0)),
            lane: Some(Lane::Signup),
            history: History::new(Timestamp::from_unix_ms(0)),
            message_id: Some("m-1".to_owned()),
            problems: Vec::new(),
            body: body.as_bytes().to_vec(),
        }
    }

    pub(in crate::app::commands::dead) const BODY: &str =
        r#"{"jobId":"crm-1","metadata":{"who":"Jane"},"user":{"email":"jane@example.com","Jane's dog":"Rex"}}"#;

    #[test]
    fn personal_data_is_hidden_unless_revealed() {
        for body in [BODY, r#"{"Jane":"jane@example.com"}"#, "Jane, jane@example.com"] {
            for view in [as_text, as_json] {
                let (shown, revealed) = (view(&dead_letter(body), false), view(&dead_letter(body), true));
                assert!(!shown.contains("Jane") && !shown.contains("jane@"), "{shown}");
                assert!(revealed.contains("jane@example.com"), "{revealed}");
            }
        }
        let shown = as_text(&dead_letter(BODY), false);
        assert!(shown.contains(r#""email": "[hidden]""#), "{shown}");
        // An upstream may use personal data as ids.
        let named = dead_letter(r#"{"jobId":"jane@example.com","batchId":"Jane Doe","user":{}}"#);
        for view in [as_text, as_json] {
            let (shown, revealed) = (view(&named, false), view(&named, true));
            assert!(!shown.contains("jane@") && !shown.contains("Jane"), "{shown}");
            assert!(revealed.contains("jane@example.com") && revealed.contains("Jane Doe"), "{revealed}");
        }
    }

    #[test]
    fn ids_in_the_outline_are_shown_in_the_message_too() {
        let shown = as_text(&dead_letter(BODY), false);
        assert!(shown.contains(&format!("{:<12}crm-1", "jobId")) && shown.contains(r#""jobId": "crm-1""#), "{shown}");
        // Neither a job id nor an idempotency key.
        let odd = dead_letter(r#"{"jobId":["Jane"],"batchId":7,"idempotencyKey":"Jane","source":"Jane","user":{}}"#);
        assert!(!as_text(&odd, false).contains("Jane"));
    }

    #[test]
    fn a_reason_without_problems_is_explained() {
        let sent =
            History { attempts: 8, ..History::new(Timestamp::from_unix_ms(0)).with_send(Timestamp::from_unix_ms(0)) };
        for (reason, text) in [
            (ATTEMPTS_EXHAUSTED, "no definite answer in 8 attempts over 131 s; a user may have been created"),
            (NOT_RECONCILED, "no definite answer in 8 attempts over 131 s"),
            ("OUTLIER_JOB", "while other jobs succeeded"),
            (DELIVERY_LIMIT, "It has no event"),
            (EXPIRED, "an expiration from its upstream"),
            ("MALFORMED_JOB", "correct its upstream; --reveal shows what is wrong"),
        ] {
            let dead_at = Some(Timestamp::from_unix_ms(131_000));
            let dead_letter = DeadLetter { reason: reason.to_owned(), dead_at, history: sent, ..dead_letter(BODY) };
            for view in [as_text, as_json] {
                let shown = view(&dead_letter, false);
                assert!(shown.contains(text), "{shown}");
            }
        }
    }

    #[test]
    fn revealing_shows_what_is_wrong_with_the_message() {
        let shown = as_text(&dead_letter(BODY), true);
        assert!(shown.contains("Jane's dog: UNKNOWN_FIELD: "), "{shown}");
        assert!(as_json(&dead_letter(BODY), true).contains("UNKNOWN_FIELD"));
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut evil = dead_letter(r#"{"jobId":"\u001b[2J","user":{}}"#);
        evil.reason = "\u{1b}[31mX".to_owned();
        let shown = as_text(&evil, true);
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
