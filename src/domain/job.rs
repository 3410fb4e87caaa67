//! A job: the message that asks for one user to be created.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJson;
use strum::VariantArray;

use crate::domain::private::debug_redacted;
use crate::domain::{Field, IdempotencyKey, NameMark, Problem, RawUser, RawValue, ServiceId, User, Warning, validate};

/// Longest `jobId` and `batchId` in bytes: both are sent as AMQP short strings.
pub const ID_BYTES_MAX: usize = 255;

/// A lane is a priority queue: a person who signs up doesn't wait behind a migration.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// People who wait for their link.
    Signup,
    /// Migrations. This lane has a share of the rate even while `signup` is never empty.
    Bulk,
}

impl Lane {
    /// Both lanes, the more urgent first.
    pub const ALL: [Self; 2] = *Self::VARIANTS.as_array().unwrap();

    /// Its name in settings, labels and queue names.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The row of the input file that a job came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Source {
    /// File name without its folder.
    pub file: String,
    /// Line on which the record starts; the header is line 1.
    pub line: u64,
}

/// The body of a job message (`application/json`), see `docs/contract`.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, schemars(title = "Job", description = "Asks for one user to be created."))]
pub struct JobMessage<'a> {
    /// The upstream's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(min = 1, max = 255)))]
    pub job_id: Option<Cow<'a, str>>,
    /// The batch of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(min = 1, max = 255)))]
    pub batch_id: Option<Cow<'a, str>>,
    /// The upstream's own key, used instead of the derived one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<IdempotencyKey>"))]
    pub idempotency_key: Option<Cow<'a, str>>,
    /// The `serviceId` of the user that is deleted first, if it isn't approved. Not together with `idempotencyKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,255}$")))]
    pub replaces: Option<Cow<'a, str>>,
    /// Opaque; returned in the outcome byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "serde_json::Value"))]
    pub metadata: Option<&'a RawJson>,
    /// The row of the input file. Written by the importer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The API's fields.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "User<'a>"))]
    pub user: &'a RawJson,
}

/// A job that may be sent.
pub struct Job {
    /// Identifies the job to its upstream.
    pub identity: Identity,
    /// Sent as `idempotency-key`.
    pub key: IdempotencyKey,
    /// The key derived from the body; differs from `key` where the upstream gave its own.
    pub content_key: IdempotencyKey,
    /// Lower-case, for the look-up of the user.
    pub email: String,
    /// The request body in canonical form. Clones share the bytes.
    pub body: Bytes,
}

/// The parts of a job that its outcome repeats.
#[derive(Default, Clone)]
pub struct Identity {
    /// The upstream's reference, or a replacement for it.
    pub job_id: Option<String>,
    /// The batch of the job.
    pub batch_id: Option<String>,
    /// Opaque.
    pub metadata: Option<Box<RawJson>>,
    /// The row of the input file.
    pub source: Option<Source>,
    /// The email as given, if it could be read: the outcome has it even for a rejected job.
    pub email: Option<String>,
    /// The user to replace. In a [`Job`] it is a usable id, see [`Job::replaces`].
    pub replaces: Option<String>,
}

/// A job that can't be sent as it is.
pub struct InvalidJob {
    /// The parts that could be read.
    pub identity: Identity,
    /// The upstream's own key, if it gave one.
    pub key: Option<IdempotencyKey>,
    /// Every problem of the job.
    pub problems: Vec<Problem>,
}

impl Job {
    /// Returns the name in the body, which distinguishes the job's user from another with the same email. The body is
    /// parsed at each call, because only jobs whose answer was lost need the name.
    pub fn name_mark(&self) -> Option<NameMark> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct NameFields<'a> {
            #[serde(borrow)]
            first_name: Cow<'a, str>,
            #[serde(borrow)]
            last_name: Cow<'a, str>,
        }
        let name: NameFields<'_> = serde_json::from_slice(&self.body).ok()?;
        NameMark::of(&name.first_name, &name.last_name)
    }

    /// Returns the user that is to be deleted and created again.
    pub fn replaces(&self) -> Option<ServiceId> {
        self.identity.replaces.as_deref().and_then(replaced_id)
    }

    /// Reads and validates a message body.
    ///
    /// # Errors
    /// [`InvalidJob`] with every problem at once: not JSON, wrong shape, unknown fields, field rules.
    pub fn parse(body: &[u8]) -> Result<(Self, Vec<Warning>), Box<InvalidJob>> {
        let message: JobMessage<'_> = serde_json::from_slice(body).map_err(|error| malformed(body, &error))?;
        let given = message.user.get();
        let user: Option<RawUser<'_>> = given.starts_with('{').then(|| serde_json::from_str(given).ok()).flatten();
        let identity = Identity {
            job_id: message.job_id.map(Cow::into_owned),
            batch_id: message.batch_id.map(Cow::into_owned),
            metadata: message.metadata.map(ToOwned::to_owned),
            source: message.source,
            email: None,
            replaces: message.replaces.map(Cow::into_owned),
        };
        let email_given = || match user.as_ref()?.get(Field::Email) {
            RawValue::Text(email) => Some(email.clone().into_owned()),
            _ => None,
        };
        let validated = user.as_ref().map_or_else(
            || Err(vec![Problem::whole("MALFORMED_JOB", "user must be an object with the API's fields")]),
            validate,
        );
        Self::from_parts(identity, message.idempotency_key.as_deref(), validated, email_given)
    }

    /// Like [`Self::parse`], for a message from an untrusted producer: of one longer than `bytes_max` only the ids are
    /// read.
    ///
    /// # Errors
    /// [`InvalidJob`], as [`Self::parse`], or because it is too long.
    pub fn parse_bounded(body: &[u8], bytes_max: usize) -> Result<(Self, Vec<Warning>), Box<InvalidJob>> {
        if body.len() <= bytes_max {
            return Self::parse(body);
        }
        let message = format!(
            "the message has {} bytes, at most {bytes_max} are allowed (queue.message_bytes_max): shorten metadata",
            body.len()
        );
        let problems = vec![Problem::whole("MESSAGE_TOO_LARGE", message)];
        Err(Box::new(InvalidJob { identity: identity_of(body), key: None, problems }))
    }

    /// Creates a job from its identity and its validated user. The identity's email becomes the user's, or that of
    /// `email_given` for an invalid user.
    ///
    /// # Errors
    /// [`InvalidJob`] with the problems of the identity and of the user.
    pub fn from_parts(
        mut identity: Identity,
        own_key: Option<&str>,
        validated: Result<(User<'_>, Vec<Warning>), Vec<Problem>>,
        email_given: impl FnOnce() -> Option<String>,
    ) -> Result<(Self, Vec<Warning>), Box<InvalidJob>> {
        let mut problems = Vec::new();
        identity.job_id = bounded("jobId", identity.job_id, &mut problems);
        identity.batch_id = bounded("batchId", identity.batch_id, &mut problems);
        let own_key = own_key.map(|text| {
            IdempotencyKey::parse(text).ok_or_else(|| Problem {
                field: Some("idempotencyKey".to_owned()),
                code: "INVALID_IDEMPOTENCY_KEY".to_owned(),
                message: "must be a UUID, and not the nil UUID (only zeros): correct it, or leave idempotencyKey out \
                          to have it derived"
                    .to_owned(),
            })
        });
        let own_key = match own_key.transpose() {
            Ok(key) => key,
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        problems.extend(identity.replaces.as_deref().and_then(|id| replaces_problem(id, own_key.is_some())));
        match validated {
            Ok((user, warnings)) if problems.is_empty() => {
                identity.email = Some(user.email().to_owned());
                return Ok((Self::new(identity, own_key, user), warnings));
            }
            Ok(_) => {}
            Err(user_problems) => problems.extend(user_problems),
        }
        identity.email = email_given();
        Err(Box::new(InvalidJob { identity, key: own_key, problems }))
    }

    fn new(identity: Identity, own_key: Option<IdempotencyKey>, user: User<'_>) -> Self {
        let body = user.canonical_json();
        let replaced = identity.replaces.as_deref().and_then(replaced_id);
        let content_key = match &replaced {
            Some(replaced) => IdempotencyKey::of_recreation(body.as_bytes(), replaced),
            None => IdempotencyKey::of_canonical(body.as_bytes()),
        };
        Self { identity, key: own_key.unwrap_or(content_key), content_key, email: user.email, body: body.into() }
    }
}

debug_redacted!(JobMessage<'a>, Job, Identity, InvalidJob);

/// Returns the problem of a job whose `idempotencyKey` was used before, for other data.
pub fn key_in_use() -> Problem {
    Problem {
        field: Some("idempotencyKey".to_owned()),
        code: "IDEMPOTENCY_KEY_IN_USE".to_owned(),
        message: "other data have this key already: give each person and each correction a key of its own, or leave \
                  idempotencyKey out to have it derived"
            .to_owned(),
    }
}

/// Reads the id of a user to replace. It becomes a part of a URL's path, so only characters that need no escape are
/// accepted. The API's own ids have no others.
fn replaced_id(text: &str) -> Option<ServiceId> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    ServiceId::parse(text).filter(|_| is_plain)
}

fn replaces_problem(id: &str, has_own_key: bool) -> Option<Problem> {
    let message = if replaced_id(id).is_none() {
        "must be the serviceId of the user to replace: 1 to 255 letters, digits, - or _"
    } else if has_own_key {
        "can't be used together with idempotencyKey: leave idempotencyKey out, a re-creation has a derived key"
    } else {
        return None;
    };
    Some(Problem {
        field: Some("replaces".to_owned()),
        code: "INVALID_REPLACES".to_owned(),
        message: message.to_owned(),
    })
}

fn bounded(name: &str, id: Option<String>, problems: &mut Vec<Problem>) -> Option<String> {
    let id = id?;
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        problems.push(Problem {
            field: Some(name.to_owned()),
            code: "INVALID_ID".to_owned(),
            message: format!("must have 1 to {ID_BYTES_MAX} bytes and no control characters"),
        });
        return None;
    }
    Some(id)
}

/// Returns the members of an object, unparsed.
fn members(body: &[u8]) -> BTreeMap<Cow<'_, str>, &RawJson> {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Returns the ids in a message that may be no job.
fn identity_of(body: &[u8]) -> Identity {
    let members = members(body);
    let id = |name: &str| {
        let text: Option<String> = serde_json::from_str(members.get(name)?.get()).ok()?;
        bounded(name, text, &mut Vec::new())
    };
    let replaces = members.get("replaces").and_then(|json| serde_json::from_str(json.get()).ok());
    Identity { job_id: id("jobId"), batch_id: id("batchId"), replaces, ..Identity::default() }
}

/// Describes a message that is no job, with its ids and metadata.
fn malformed(body: &[u8], error: &serde_json::Error) -> Box<InvalidJob> {
    let members = members(body);
    let metadata = members.get("metadata").map(|metadata| (*metadata).to_owned());
    let identity = Identity { metadata, ..identity_of(body) };
    let unknown = members.keys().find(|name| !MEMBERS.contains(&name.as_ref()));
    let cause = match (error.classify(), unknown) {
        (serde_json::error::Category::Data, Some(unknown)) => {
            let unknown: String = unknown.chars().filter(|char| !char.is_control()).take(NAME_CHARS_MAX).collect();
            format!("it has an unknown member, {unknown:?}")
        }
        _ => describe(error),
    };
    let problem = Problem::whole(
        "MALFORMED_JOB",
        format!(
            "the message is not a job ({cause}): send {{\"user\": {{...}}}} with the optional jobId, batchId, \
             idempotencyKey, replaces and metadata"
        ),
    );
    Box::new(InvalidJob { identity, key: None, problems: vec![problem] })
}

/// The members of a [`JobMessage`].
pub(crate) const MEMBERS: [&str; 7] = ["jobId", "batchId", "idempotencyKey", "replaces", "metadata", "source", "user"];

/// Most characters of an unknown member's name in an error message.
const NAME_CHARS_MAX: usize = 100;

/// Describes the cause and the position of a JSON error, without quoting the JSON.
fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it is not JSON",
        _ => "it has an unknown or a missing member, or one of the wrong type",
    };
    format!("{what}, line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (Option<String>, Option<String>, String) {
        let invalid = Job::parse(body.as_bytes()).err().unwrap();
        (invalid.identity.job_id, invalid.identity.batch_id, invalid.problems[0].message.clone())
    }

    #[test]
    fn a_job_may_replace_a_user_and_has_another_key_then() {
        let body = |members: &str| {
            let message = crate::testing::message::message("crm-1", "jane@example.com").to_string();
            format!("{{{members}{}", message.trim_start_matches('{'))
        };
        let (first, _) = Job::parse(body("").as_bytes()).ok().unwrap();
        let (again, _) = Job::parse(body(r#""replaces":"acme-user-1_A","#).as_bytes()).ok().unwrap();
        assert_eq!(again.replaces().unwrap().as_str(), "acme-user-1_A");
        assert_eq!((first.replaces(), &first.body), (None, &again.body));
        assert!(first.key != again.key && again.key == again.content_key);
        let key = "550e8400-e29b-41d4-a716-446655440000";
        for wrong in ["a/b", "..", "", "a b", "é", &"x".repeat(256)] {
            let invalid = Job::parse(body(&format!(r#""replaces":"{wrong}","#)).as_bytes()).err().unwrap();
            assert_eq!(invalid.problems[0].code, "INVALID_REPLACES", "{wrong}");
        }
        let both = body(&format!(r#""replaces":"acme-user-1","idempotencyKey":"{key}","#));
        let invalid = Job::parse(both.as_bytes()).err().unwrap();
        assert_eq!(invalid.problems[0].code, "INVALID_REPLACES");
        assert_eq!(invalid.identity.replaces.as_deref(), Some("acme-user-1"));
    }

    #[test]
    fn a_message_that_is_no_job_is_reported_with_the_ids_of_its_upstream() {
        let (job, batch, message) = refused(r#"{"jobId": "crm-1", "batchId": "b", "extra\n": 1, "user": {}}"#);
        assert_eq!((job.as_deref(), batch.as_deref()), (Some("crm-1"), Some("b")));
        assert!(message.contains(r#"it has an unknown member, "extra""#), "{message}");
        let (job, _, message) = refused(r#"{"jobId": "crm-1", "metadata": {}}"#);
        assert!(job.as_deref() == Some("crm-1") && message.contains("missing member"), "{message}");
        let long = format!(r#"{{"jobId": "crm-2", "metadata": "{}", "user": {{}}}}"#, "x".repeat(5_000));
        let invalid = Job::parse_bounded(long.as_bytes(), 4_096).err().unwrap();
        assert_eq!(invalid.identity.job_id.as_deref(), Some("crm-2"));
        for unusable in [r#"{"jobId": 7, "user": {}}"#, r#"{"jobId": "a\nb", "x": 1}"#, "[]", "not json"] {
            assert_eq!(refused(unusable).0, None, "{unusable}");
        }
    }
}
