//! Classifies the body of a 400, 409 or 422: is it about a job?

use serde_json::Value;

use super::{AccountReason, Answer, CONCLUSIVE_CODES, STATUS_CODE_PREFIX, UnknownReason, salvage};
use crate::domain::Field;

/// The codes and words of refusals that don't mean that the job can't succeed. Compared without case.
#[derive(Debug, Clone, Default)]
pub struct RefusalMarks {
    /// Values of the error's `message` that mean "key already used". Assumed: the vendor documents none.
    pub key_used_codes: Vec<String>,
    /// Words in `message` or `data.error` that mean "key already used". Assumed, as above.
    pub key_used_words: Vec<String>,
    /// Values of `message` that mean "a user with this email exists". `DUP_USER` is documented.
    pub user_exists_codes: Vec<String>,
}

/// Longest part of a refusal's text that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 1_000;

/// How deep the parts of an answer are searched for the name of a field.
const DEPTH_MAX: usize = 5;

/// Members that hold what is wrong, perhaps keyed by field.
const PROBLEM_MEMBERS: [&str; 6] = ["error", "errors", "detail", "details", "violations", "validationErrors"];

/// Members that hold what is wrong, or an object that has it. They may also repeat the request, so that the name of a
/// member in them says nothing.
const OUTER_MEMBERS: [&str; 2] = ["message", "data"];

/// Members of a problem that hold the name of its field.
const FIELD_MEMBERS: [&str; 7] = ["field", "property", "path", "param", "parameter", "pointer", "instancePath"];

/// Words of a refusal that mentions an idempotency key because it is missing or malformed, perhaps because a proxy
/// removed the header. No key is used then.
const NO_KEY_WORDS: [&str; 6] = ["required", "missing", "invalid", "malformed", "must be", "not a valid"];

/// Classifies the body of a refusal, see [`super::classify`].
pub(super) fn refusal(status: u16, body: &[u8], marks: &RefusalMarks) -> Answer {
    let Ok(json) = serde_json::from_slice::<Value>(salvage::without_mark(body)) else {
        return unreadable_refusal(status, body, marks);
    };
    let (code, text) = (code(&json), text(&json));
    if let Some(answer) = marks.recognise(status, &code, &text) {
        return answer;
    }
    let is_known = CONCLUSIVE_CODES.contains(&code.as_str()) || marks.has_key_used_code(&code);
    if is_known || (looks_like_a_code(&code) && has_envelope(&json)) {
        return Answer::Rejected { status, code, text };
    }
    if !names_field(&json, false, DEPTH_MAX) {
        return Answer::Account(AccountReason::UnexpectedRefusal(status));
    }
    // A sentence in place of the code may quote personal data.
    let text = [code, text].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    Answer::Rejected { status, code: format!("{STATUS_CODE_PREFIX}{status}"), text }
}

/// A refusal whose end is missing may have been any, including that of a used key. Only a known code decides.
fn unreadable_refusal(status: u16, body: &[u8], marks: &RefusalMarks) -> Answer {
    let unreadable = Answer::Unknown(UnknownReason::Unreadable);
    let Some(code) = salvage::refusal_code(body) else { return unreadable };
    match marks.recognise(status, &code, "") {
        Some(answer) => answer,
        None if CONCLUSIVE_CODES.contains(&code.as_str()) => Answer::Rejected { status, code, text: String::new() },
        None => unreadable,
    }
}

/// Returns whether an answer has the shape of the API's errors beside its `message`. A gateway writes upper-case words in
/// `message` too, such as `FORBIDDEN`.
fn has_envelope(json: &Value) -> bool {
    let says_error = json.get("status").and_then(Value::as_str).is_some_and(salvage::is_error);
    says_error || json.get("data").is_some_and(|data| data.get("error").is_some())
}

/// The machine-readable code, or the text in its place.
fn code(json: &Value) -> String {
    json.get("message").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The text for people.
fn text(json: &Value) -> String {
    let data = json.get("data").unwrap_or(&Value::Null);
    let mut text = match data.get("error").unwrap_or(data) {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        // For example a list of problems.
        other => other.to_string(),
    };
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

/// Returns whether it is an upper-case code like `USER_BLACKLISTED`. Any other text may contain personal data, for
/// example a phone number.
pub(crate) fn looks_like_a_code(code: &str) -> bool {
    (1..=64).contains(&code.len())
        && code.starts_with(|first: char| first.is_ascii_uppercase())
        && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

impl RefusalMarks {
    /// Returns what a refusal with these marks means.
    fn recognise(&self, status: u16, code: &str, text: &str) -> Option<Answer> {
        if self.user_exists_codes.iter().any(|mark| mark.eq_ignore_ascii_case(code)) {
            return Some(Answer::UserExists);
        }
        (matches!(status, 400 | 409) && self.says_key_used(code, text)).then_some(Answer::KeyAlreadyUsed)
    }

    fn has_key_used_code(&self, code: &str) -> bool {
        self.key_used_codes.iter().any(|mark| mark.eq_ignore_ascii_case(code))
    }

    fn says_key_used(&self, code: &str, text: &str) -> bool {
        if self.has_key_used_code(code) {
            return true;
        }
        let refusal = format!("{code} {text}").to_lowercase();
        let mentions_key = |word: &String| !word.is_empty() && refusal.contains(&word.to_lowercase());
        self.key_used_words.iter().any(mentions_key) && !NO_KEY_WORDS.iter().any(|word| refusal.contains(word))
    }
}

/// Returns whether a part of a refusal names a field of the API's request: what is wrong (in [`PROBLEM_MEMBERS`] or
/// [`OUTER_MEMBERS`]) has the field in one of [`FIELD_MEMBERS`], is keyed by it, or is a text that begins with its name
/// or quotes it.
fn names_field(part: &Value, may_be_keyed: bool, depth: usize) -> bool {
    match part {
        Value::String(text) => is_text_about_field(text),
        Value::Array(parts) if depth > 0 => parts.iter().any(|part| names_field(part, may_be_keyed, depth - 1)),
        Value::Object(members) if depth > 0 => members.iter().any(|(name, part)| match name.as_str() {
            name if PROBLEM_MEMBERS.contains(&name) => names_field(part, true, depth - 1),
            name if OUTER_MEMBERS.contains(&name) => names_field(part, false, depth - 1),
            name if FIELD_MEMBERS.contains(&name) => is_field_path(part),
            name => may_be_keyed && field_of(name).is_some(),
        }),
        _ => false,
    }
}

/// Returns whether it is the path to a field, such as `email`, `user.email`, `/email` or `["email"]`.
fn is_field_path(value: &Value) -> bool {
    let last = match value {
        Value::String(path) => path.rsplit(['.', '/']).next(),
        Value::Array(steps) => steps.last().and_then(Value::as_str),
        _ => None,
    };
    last.is_some_and(|name| field_of(name).is_some())
}

fn is_text_about_field(text: &str) -> bool {
    let is_between = |c: char| !c.is_ascii_alphanumeric() && c != '.';
    let first_word = text.split(is_between).find(|word| !word.is_empty());
    let last_step = first_word.and_then(|word| word.trim_end_matches('.').rsplit('.').next());
    let is_first = last_step.is_some_and(is_name_in_sentence);
    is_first || ['"', '\'', '`'].iter().any(|quote| text.split(*quote).skip(1).any(|word| field_of(word).is_some()))
}

/// Returns whether the first word of a sentence is a field's name, and not an English word with its capital letter:
/// `Region is not available`. With a capital only a name of several words counts, and `Email`.
fn is_name_in_sentence(word: &str) -> bool {
    let is_plain_word = || word.bytes().skip(1).all(|byte| byte.is_ascii_lowercase());
    Field::from_name(word).is_some() || (field_of(word).is_some() && (word == "Email" || !is_plain_word()))
}

/// The field with this name; its first letter may be a capital.
fn field_of(name: &str) -> Option<Field> {
    let mut letters = name.chars();
    let first = letters.next()?;
    Field::from_name(name).or_else(|| Field::from_name(&format!("{}{}", first.to_ascii_lowercase(), letters.as_str())))
}
