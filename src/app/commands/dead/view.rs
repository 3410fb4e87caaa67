//! Dead letters for a person, or as JSON. Nothing personal is shown unless asked for: of the user only which fields there
//! are. Whatever came with a message is printed without control characters, which could rewrite the terminal.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::app::results::summary::grouped;
use crate::domain::dead_letter::{DELIVERY_LIMIT, EXPIRED};
use crate::domain::decide::{ATTEMPTS_EXHAUSTED, History, NOT_RECONCILED, no_definite_answer};
use crate::domain::private::shown_id;
use crate::domain::{DeadLetter, Field, IdempotencyKey, Job, Lane, Problem, Timestamp};

/// Most reasons that are counted apart.
const REASONS_MAX: usize = 100;

/// How many letters there are.
pub(crate) fn letters_in_words(count: u64) -> String {
    format!("{} dead letter{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// How many letters there are by reason.
#[derive(Debug, Default)]
pub(crate) struct Reasons(BTreeMap<String, u64>);

impl Reasons {
    /// Counts a letter.
    pub(crate) fn count(&mut self, letter: &DeadLetter) {
        let reason = printable(&letter.reason);
        let is_known = self.0.len() < REASONS_MAX || self.0.contains_key(&reason);
        *self.0.entry(if is_known { reason } else { "(other)".to_owned() }).or_default() += 1;
    }

    /// That none of them has this one.
    pub(crate) fn without(&self, reason: &str) -> String {
        let there: Vec<_> = self.0.iter().map(|(reason, count)| format!("{} x {reason}", grouped(*count))).collect();
        let there = if there.is_empty() {
            "there are none at all".to_owned()
        } else {
            format!("there are {}", there.join(", "))
        };
        format!("no dead letter has the reason {}: {there}", printable(reason))
    }
}

/// The list: the first letters line by line, and how many there are by reason.
#[derive(Debug)]
pub(crate) struct Listing {
    limit: u64,
    is_json: bool,
    /// Only those with this reason.
    only: Option<String>,
    count: u64,
    reasons: Reasons,
}

impl Listing {
    /// A list that shows up to `limit` letters, of all or `only` of those with a reason.
    pub(crate) fn new(limit: u64, is_json: bool, only: Option<String>) -> Self {
        Self { limit, is_json, only, count: 0, reasons: Reasons::default() }
    }

    /// Counts a letter. `Some`: what is to be printed of it.
    pub(crate) fn add(&mut self, letter: &DeadLetter) -> Option<String> {
        self.reasons.count(letter);
        if self.only.as_ref().is_some_and(|only| *only != letter.reason) {
            return None;
        }
        self.count += 1;
        if self.count > self.limit {
            return None;
        }
        if self.is_json {
            return Some(format!("{}\n", outline(letter, false)));
        }
        let title = if self.count == 1 {
            line("id", "dead since", "lane", "attempts", "reason", "jobId")
        } else {
            String::new()
        };
        let job_id = letter.job_id().map_or_else(|| "-".to_owned(), |id| shown(&id, false));
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
    pub(crate) fn end(&self) -> String {
        if self.is_json {
            return String::new();
        }
        match &self.only {
            Some(only) if self.count == 0 => return self.reasons.without(only) + "\n",
            None if self.count == 0 => return "There are no dead letters.\n".to_owned(),
            _ => {}
        }
        let mut text = String::new();
        if self.count > self.limit {
            text += &format!("... and {} more: give a higher --limit\n", grouped(self.count - self.limit));
        }
        text += &format!("\n{}\n", letters_in_words(self.count));
        for (reason, count) in
            self.reasons.0.iter().filter(|(reason, _)| self.only.as_ref().is_none_or(|only| only == *reason))
        {
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

/// An upstream's id, printable.
fn shown(id: &str, reveals: bool) -> String {
    if reveals { printable(id) } else { shown_id(id).to_owned() }
}

/// What tells nothing about anybody.
fn outline(letter: &DeadLetter, reveals: bool) -> Value {
    let history = &letter.history;
    json!({
        "id": letter.id,
        "reason": letter.reason,
        "deadAt": letter.dead_at,
        "lane": letter.lane,
        "attempts": history.attempts,
        "jobId": letter.job_id().map(|id| shown(&id, reveals)),
        "enqueuedAt": history.enqueued_at,
        "firstSentAt": history.first_sent_at,
    })
}

/// Everything about one, as JSON.
pub(crate) fn one_as_json(letter: &DeadLetter, reveals: bool) -> String {
    let mut value = outline(letter, reveals);
    let message = Message::read(&letter.body);
    value["batchId"] = json!(message.batch_id.as_deref().map(|id| shown(id, reveals)));
    value["source"] = json!(message.source);
    value["errors"] = json!(*problems(letter, reveals));
    value["message"] = message.content(letter, reveals);
    format!("{value:#}\n")
}

/// Everything about one, for a person.
pub(crate) fn one_as_text(letter: &DeadLetter, reveals: bool) -> String {
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
    put("first sent", &first_sent(&letter.history));
    put("jobId", &letter.job_id().map_or_else(|| "-".to_owned(), |id| shown(&id, reveals)));
    put("batchId", &message.batch_id.as_deref().map_or_else(|| "-".to_owned(), |id| shown(id, reveals)));
    put("source", message.source.as_deref().unwrap_or("-"));
    let content = match message.content(letter, reveals) {
        Value::String(text) => printable(&text),
        content => format!("{content:#}").lines().map(printable).collect::<Vec<_>>().join("\n"),
    };
    text += &format!("message\n{content}\n");
    if !reveals {
        text += "Personal data is hidden: --reveal shows it.\n";
    }
    text
}

/// What is on record: it was noted before the request left; of a job that RabbitMQ gave up, it is when it was put on its queue.
fn first_sent(history: &History) -> String {
    match history.first_sent_at {
        None => "-".to_owned(),
        Some(at) if history.attempts == 0 => format!("perhaps, {at} or later"),
        Some(at) => format!("{at} or later"),
    }
}

/// What is wrong with it. RabbitMQ keeps a code only; what is wrong with a message that is no job can be found out anew, and
/// may quote names of members that somebody made up.
fn problems(letter: &DeadLetter, reveals: bool) -> Cow<'_, [Problem]> {
    if !letter.problems.is_empty() {
        return Cow::Borrowed(&letter.problems);
    }
    match Job::parse(&letter.body) {
        Err(invalid) if reveals => Cow::Owned(invalid.problems),
        job => {
            let meaning = meaning(letter, job.is_ok());
            Cow::Owned(meaning.map(|text| Problem::whole(&letter.reason, text)).into_iter().collect())
        }
    }
}

/// What the reason means, where only its code is on record.
fn meaning(letter: &DeadLetter, is_job: bool) -> Option<String> {
    let text = match letter.reason.as_str() {
        ATTEMPTS_EXHAUSTED | NOT_RECONCILED => {
            let given_up_at = letter.dead_at.unwrap_or(letter.history.enqueued_at);
            return Some(no_definite_answer(&letter.history, given_up_at));
        }
        "SINGLED_OUT" => {
            "answered again and again like trouble with the whole account, while other jobs were answered well: something about \
             it is disliked, perhaps by a firewall on the way"
        }
        DELIVERY_LIMIT => {
            "RabbitMQ gave it up: each of its deliveries ended with the worker or the connection, which it may have ended. It has \
             no event: retry it, and it gets one"
        }
        EXPIRED => {
            "its time on the queue (an expiration from its upstream, or a policy of the broker) ran out before a worker took it. \
             It has no event: retry it, which puts it back without an expiration, and it gets one"
        }
        "MESSAGE_TOO_LARGE" => {
            "it is longer than queue.message_bytes_max: have its upstream keep metadata short, or raise that setting and retry it"
        }
        _ if !is_job => "it is no job: its upstream has to be mended; --reveal shows what is wrong with it",
        _ => return None,
    };
    Some(text.to_owned())
}

/// A message, as much of it as can be read.
struct Message<'b> {
    body: &'b [u8],
    object: Option<Map<String, Value>>,
    batch_id: Option<String>,
    source: Option<String>,
}

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
    fn content(&self, letter: &DeadLetter, reveals: bool) -> Value {
        match &self.object {
            Some(object) if reveals => Value::Object(object.clone()),
            Some(object) => Value::Object(self.hidden(object, letter)),
            None if reveals => Value::String(String::from_utf8_lossy(self.body).into_owned()),
            None => Value::String(format!("{} bytes that are no JSON object", self.body.len())),
        }
    }

    /// Whoever made the message may have named its members after people, so only the known names are shown. Of the values, those
    /// that tell nothing about anybody: they stand above as well.
    fn hidden(&self, object: &Map<String, Value>, letter: &DeadLetter) -> Map<String, Value> {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let job_id = letter.job_id().filter(|id| text("jobId") == Some(id));
        let key = text("idempotencyKey").and_then(IdempotencyKey::parse).map(|key| key.to_string());
        let known = [
            ("jobId", job_id.map(|id| shown(&id, false))),
            ("batchId", self.batch_id.as_deref().map(|id| shown(id, false))),
            ("idempotencyKey", key),
            ("source", self.source.clone()),
            ("metadata", None),
            ("user", None),
        ];
        let mut shown = shape(object, |name| known.iter().any(|(known, _)| *known == name));
        for (name, value) in known {
            if let (Some(shown), Some(value)) = (shown.get_mut(name), value) {
                *shown = Value::String(value);
            }
        }
        if let Some(Value::Object(user)) = object.get("user") {
            let is_field = |name: &str| Field::from_name(name).is_some();
            shown.insert("user".to_owned(), Value::Object(shape(user, is_field)));
        }
        shown
    }
}

/// The names that are known, and how many others there are.
fn shape(object: &Map<String, Value>, is_known: impl Fn(&str) -> bool) -> Map<String, Value> {
    let (known, unknown): (Vec<_>, Vec<_>) = object.keys().partition(|name| is_known(name));
    let hidden = |name: &String| (name.clone(), Value::String("[hidden]".to_owned()));
    let mut shape: Map<String, Value> = known.into_iter().map(hidden).collect();
    if !unknown.is_empty() {
        shape.insert("(unknown members)".to_owned(), json!(unknown.len()));
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(shown.contains(r#""email": "[hidden]""#), "{shown}");
        // An upstream may have made its ids of its customers' data.
        let named = letter(r#"{"jobId":"jane@example.com","batchId":"Jane Doe","user":{}}"#);
        for is_json in [false, true] {
            let listed = Listing::new(9, is_json, None).add(&named).unwrap();
            assert!(listed.contains("(hidden)") && !listed.contains("jane@"), "{listed}");
        }
        for view in [one_as_text, one_as_json] {
            let (shown, revealed) = (view(&named, false), view(&named, true));
            assert!(!shown.contains("jane@") && !shown.contains("Jane"), "{shown}");
            assert!(revealed.contains("jane@example.com") && revealed.contains("Jane Doe"), "{revealed}");
        }
    }

    #[test]
    fn what_the_list_shows_is_not_hidden_in_the_message() {
        let shown = one_as_text(&letter(BODY), false);
        assert!(shown.contains("jobId       crm-1") && shown.contains(r#""jobId": "crm-1""#), "{shown}");
        // Not what the list takes for the job's id, and not an idempotency key.
        let odd = letter(r#"{"jobId":["Jane"],"batchId":7,"idempotencyKey":"Jane","source":"Jane","user":{}}"#);
        assert!(!one_as_text(&odd, false).contains("Jane"));
    }

    #[test]
    fn a_reason_is_explained_where_only_its_code_is_on_record() {
        let sent =
            History { attempts: 8, ..History::new(Timestamp::from_unix_ms(0)).with_send(Timestamp::from_unix_ms(0)) };
        for (reason, text) in [
            (ATTEMPTS_EXHAUSTED, "no definite answer in 8 attempts over 131 s; a user may have been created"),
            (NOT_RECONCILED, "no definite answer in 8 attempts over 131 s"),
            ("SINGLED_OUT", "while other jobs were answered well"),
            (DELIVERY_LIMIT, "It has no event"),
            (EXPIRED, "an expiration from its upstream"),
            ("MALFORMED_JOB", "its upstream has to be mended; --reveal shows what is wrong"),
        ] {
            let dead_at = Some(Timestamp::from_unix_ms(131_000));
            let letter = DeadLetter { reason: reason.to_owned(), dead_at, history: sent, ..letter(BODY) };
            for view in [one_as_text, one_as_json] {
                let shown = view(&letter, false);
                assert!(shown.contains(text), "{shown}");
            }
        }
    }

    #[test]
    fn a_reason_that_no_letter_has_is_told_with_those_that_there_are() {
        let mut listing = Listing::new(9, false, Some("NOSUCH".to_owned()));
        assert!(listing.end().contains("NOSUCH: there are none at all"));
        assert_eq!((0..2).filter_map(|_| listing.add(&letter(BODY))).count(), 0);
        assert_eq!(listing.end(), "no dead letter has the reason NOSUCH: there are 2 x MALFORMED_JOB\n");
        let mut listing = Listing::new(9, false, Some("MALFORMED_JOB".to_owned()));
        listing.add(&DeadLetter { reason: EXPIRED.to_owned(), ..letter(BODY) });
        assert!(listing.add(&letter(BODY)).is_some());
        assert_eq!(listing.end(), "\n1 dead letter\n          1 x MALFORMED_JOB\n");
    }

    #[test]
    fn who_may_see_the_message_sees_what_is_wrong_with_it_too() {
        let shown = one_as_text(&letter(BODY), true);
        assert!(shown.contains("Jane's dog: UNKNOWN_FIELD: "), "{shown}");
        assert!(one_as_json(&letter(BODY), true).contains("UNKNOWN_FIELD"));
    }

    #[test]
    fn a_list_is_bounded_and_counts_the_rest_by_reason() {
        let mut listing = Listing::new(2, false, None);
        let lines = (0..5).filter_map(|_| listing.add(&letter(BODY))).count();
        assert_eq!(lines, 2);
        let end = listing.end();
        assert!(end.contains("and 3 more") && end.contains("5 x MALFORMED_JOB"), "{end}");
    }

    #[test]
    fn control_characters_of_a_message_do_not_reach_the_terminal() {
        let mut evil = letter(r#"{"jobId":"\u001b[2J","user":{}}"#);
        evil.reason = "\u{1b}[31mX".to_owned();
        let mut listing = Listing::new(2, false, None);
        let shown = listing.add(&evil).unwrap() + &listing.end() + &one_as_text(&evil, true);
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
