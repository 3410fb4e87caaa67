//! Dead letters for a person, or as JSON. Nothing personal is shown unless asked for: of the user only which fields there
//! are. Whatever came with a message is printed without control characters, which could rewrite the terminal.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::summary::grouped;
use crate::domain::{DeadLetter, Field, Job, Lane, Problem, Timestamp};

/// Most reasons that are counted apart.
const REASONS_MAX: usize = 100;

/// The list: the first letters line by line, and how many there are by reason.
#[derive(Debug)]
pub(super) struct Listing {
    limit: u64,
    is_json: bool,
    count: u64,
    reasons: BTreeMap<String, u64>,
}

impl Listing {
    /// A list that shows up to `limit` letters.
    pub(super) const fn new(limit: u64, is_json: bool) -> Self {
        Self { limit, is_json, count: 0, reasons: BTreeMap::new() }
    }

    /// Counts a letter. `Some`: what is to be printed of it.
    pub(super) fn add(&mut self, letter: &DeadLetter) -> Option<String> {
        self.count += 1;
        let reason = printable(&letter.reason);
        let is_known = self.reasons.len() < REASONS_MAX || self.reasons.contains_key(&reason);
        *self.reasons.entry(if is_known { reason } else { "(other)".to_owned() }).or_default() += 1;
        if self.count > self.limit {
            return None;
        }
        if self.is_json {
            return Some(format!("{}\n", outline(letter)));
        }
        let title = if self.count == 1 {
            line("id", "dead since", "lane", "attempts", "reason", "jobId")
        } else {
            String::new()
        };
        let job_id = letter.job_id().map_or_else(|| "-".to_owned(), |id| printable(&id));
        Some(
            title
                + &line(
                    &printable(&letter.id),
                    &time(letter.dead_at),
                    letter.lane.map_or("-", Lane::name),
                    &letter.history.attempts.to_string(),
                    &printable(&letter.reason),
                    &job_id,
                ),
        )
    }

    /// What comes below.
    pub(super) fn end(&self) -> String {
        if self.is_json {
            return String::new();
        }
        if self.count == 0 {
            return "There are no dead letters.\n".to_owned();
        }
        let mut text = String::new();
        if self.count > self.limit {
            text += &format!("... and {} more: give a higher --limit\n", grouped(self.count - self.limit));
        }
        text += &format!("\n{} dead letters\n", grouped(self.count));
        for (reason, count) in &self.reasons {
            text += &format!("  {:>9} x {reason}\n", grouped(*count));
        }
        text
    }
}

fn line(id: &str, dead_at: &str, lane: &str, attempts: &str, reason: &str, job_id: &str) -> String {
    format!("{id:<36}  {dead_at:<24}  {lane:<6}  {attempts:>8}  {reason:<20}  {job_id}\n")
}

fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

/// Control characters as escapes.
fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { char.escape_default().to_string() } else { char.to_string() })
        .collect()
}

/// What tells nothing about anybody.
fn outline(letter: &DeadLetter) -> Value {
    let history = &letter.history;
    json!({
        "id": letter.id,
        "reason": letter.reason,
        "deadAt": letter.dead_at,
        "lane": letter.lane,
        "attempts": history.attempts,
        "jobId": letter.job_id(),
        "enqueuedAt": history.enqueued_at,
        "firstSentAt": history.first_sent_at,
        "lastSentAt": history.last_sent_at,
    })
}

/// Everything about one, as JSON.
pub(super) fn one_as_json(letter: &DeadLetter, reveals: bool) -> String {
    let mut value = outline(letter);
    let message = Message::read(&letter.body);
    value["batchId"] = json!(message.batch_id);
    value["source"] = json!(message.source);
    value["errors"] = json!(*problems(letter, reveals));
    value["message"] = message.content(reveals);
    format!("{value:#}\n")
}

/// Everything about one, for a person.
pub(super) fn one_as_text(letter: &DeadLetter, reveals: bool) -> String {
    let message = Message::read(&letter.body);
    let history = &letter.history;
    let mut text = String::new();
    let mut put = |name: &str, value: &str| text += &format!("{name:<12}{}\n", printable(value));
    put("id", &letter.id);
    put("reason", &letter.reason);
    for Problem { field, code, message } in problems(letter, reveals).iter() {
        let field = field.as_ref().map_or_else(String::new, |field| format!("{field}: "));
        put("", &format!("{field}{code}: {message}"));
    }
    put("dead since", &time(letter.dead_at));
    put("lane", letter.lane.map_or("-", Lane::name));
    put("attempts", &history.attempts.to_string());
    put("queued", &history.enqueued_at.to_string());
    put("first sent", &time(history.first_sent_at));
    put("last sent", &time(history.last_sent_at));
    put("jobId", &letter.job_id().unwrap_or_else(|| "-".to_owned()));
    put("batchId", message.batch_id.as_deref().unwrap_or("-"));
    put("source", message.source.as_deref().unwrap_or("-"));
    let content = match message.content(reveals) {
        Value::String(text) => printable(&text),
        content => format!("{content:#}"),
    };
    text += &format!("message\n{content}\n");
    if !reveals {
        text += "Personal data is hidden: --reveal shows it.\n";
    }
    text
}

/// What is wrong with it. RabbitMQ keeps a code only; what is wrong with a message that is no job can be found out anew, and
/// may quote names of members that somebody made up.
fn problems(letter: &DeadLetter, reveals: bool) -> Cow<'_, [Problem]> {
    match Job::parse(&letter.body) {
        Err(invalid) if reveals && letter.problems.is_empty() => Cow::Owned(invalid.problems),
        _ => Cow::Borrowed(&letter.problems),
    }
}

/// A message, as much of it as can be read.
struct Message<'b> {
    body: &'b [u8],
    object: Option<Map<String, Value>>,
    batch_id: Option<String>,
    source: Option<String>,
}

const HIDDEN: &str = "[hidden]";

impl<'b> Message<'b> {
    fn read(body: &'b [u8]) -> Self {
        let object: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
        let member = |name: &str| object.as_ref().and_then(|object| object.get(name));
        let batch_id = member("batchId").and_then(Value::as_str).map(str::to_owned);
        let source = member("source").and_then(|source| {
            Some(format!("{}, line {}", source.get("file")?.as_str()?, source.get("line")?.as_u64()?))
        });
        Self { body, object, batch_id, source }
    }

    /// The message, or its shape: which of the known members it has.
    fn content(&self, reveals: bool) -> Value {
        match &self.object {
            Some(object) if reveals => Value::Object(object.clone()),
            Some(object) => Value::Object(hidden(object)),
            None if reveals => Value::String(String::from_utf8_lossy(self.body).into_owned()),
            None => Value::String(format!("{} bytes that are no JSON object", self.body.len())),
        }
    }
}

/// Whoever made the message may have named its members after people, so only the known names are shown.
fn hidden(object: &Map<String, Value>) -> Map<String, Value> {
    const KNOWN: [&str; 5] = ["jobId", "batchId", "idempotencyKey", "metadata", "source"];
    let shape = |object: &Map<String, Value>, is_known: &dyn Fn(&str) -> bool| {
        let (known, unknown): (Vec<_>, Vec<_>) = object.keys().partition(|name| is_known(name.as_str()));
        let mut shape: Map<String, Value> =
            known.into_iter().map(|name| (name.clone(), Value::String(HIDDEN.to_owned()))).collect();
        if !unknown.is_empty() {
            shape.insert("(unknown members)".to_owned(), json!(unknown.len()));
        }
        shape
    };
    let mut shown = shape(object, &|name| KNOWN.contains(&name) || name == "user");
    if let Some(Value::Object(user)) = object.get("user") {
        shown.insert("user".to_owned(), Value::Object(shape(user, &|name| Field::from_name(name).is_some())));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decide::History;

    fn letter(body: &str) -> DeadLetter {
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

    const BODY: &str =
        r#"{"jobId":"crm-1","metadata":{"who":"Jane"},"user":{"email":"jane@example.com","Jane's dog":"Rex"}}"#;

    #[test]
    fn nothing_personal_is_shown_unless_asked_for() {
        for body in [BODY, r#"{"Jane":"jane@example.com"}"#, "Jane, jane@example.com"] {
            for view in [one_as_text, one_as_json] {
                let (shown, revealed) = (view(&letter(body), false), view(&letter(body), true));
                assert!(!shown.contains("Jane") && !shown.contains("jane@"), "{shown}");
                assert!(revealed.contains("jane@example.com"), "{revealed}");
            }
        }
        let shown = one_as_text(&letter(BODY), false);
        assert!(shown.contains(r#""email": "[hidden]""#) && shown.contains("crm-1"), "{shown}");
    }

    #[test]
    fn who_may_see_the_message_sees_what_is_wrong_with_it_too() {
        let shown = one_as_text(&letter(BODY), true);
        assert!(shown.contains("Jane's dog: UNKNOWN_FIELD: "), "{shown}");
        assert!(one_as_json(&letter(BODY), true).contains("UNKNOWN_FIELD"));
    }

    #[test]
    fn a_list_is_bounded_and_counts_the_rest_by_reason() {
        let mut listing = Listing::new(2, false);
        let lines = (0..5).filter_map(|_| listing.add(&letter(BODY))).count();
        assert_eq!(lines, 2);
        let end = listing.end();
        assert!(end.contains("and 3 more") && end.contains("5 x MALFORMED_JOB"), "{end}");
    }

    #[test]
    fn control_characters_of_a_message_do_not_reach_the_terminal() {
        let mut evil = letter(r#"{"jobId":"\u001b[2J","user":{}}"#);
        evil.reason = "\u{1b}[31mX".to_owned();
        let mut listing = Listing::new(2, false);
        let shown = listing.add(&evil).unwrap() + &listing.end() + &one_as_text(&evil, true);
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
