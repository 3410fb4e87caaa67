//! The event that tells a job's outcome, exactly as it is published.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJson;
use uuid::Uuid;

use crate::domain::job::Identity;
use crate::domain::{IdempotencyKey, Problem, Source, Timestamp};

/// Version of the event's shape. Changes only when a reader could break.
pub const SPEC_VERSION: &str = "1.0";

/// The kind of an event; its text is also the routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum EventType {
    /// The API created the user.
    #[serde(rename = "user.created")]
    Created,
    /// A user with this email was there before this job.
    #[serde(rename = "user.existing")]
    Existing,
    /// The job can't succeed as it is.
    #[serde(rename = "user.rejected")]
    Rejected,
    /// Attempts or time ran out; the job is a dead letter.
    #[serde(rename = "user.failed")]
    Failed,
}

impl EventType {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 4] = [Self::Created, Self::Existing, Self::Rejected, Self::Failed];

    /// The routing key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "user.created",
            Self::Existing => "user.existing",
            Self::Rejected => "user.rejected",
            Self::Failed => "user.failed",
        }
    }

    /// The last word of the name: result files and labels.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Existing => "existing",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Created by this job.
    Created {
        /// The new user.
        service_id: String,
        /// Missing where the answer was lost and the user was found by looking it up.
        verification_url: Option<String>,
        /// Whether the answer was lost and the user found.
        recovered: bool,
    },
    /// There before this job.
    Existing {
        /// Where it could be found.
        service_id: Option<String>,
    },
    /// Refused here or by the API.
    Rejected(Vec<Problem>),
    /// Given up.
    Failed {
        /// Why.
        problem: Problem,
        /// Whether a user may have been created by a request whose answer was lost.
        may_have_been_created: bool,
    },
}

impl Outcome {
    /// The event's type.
    pub const fn event_type(&self) -> EventType {
        match self {
            Self::Created { .. } => EventType::Created,
            Self::Existing { .. } => EventType::Existing,
            Self::Rejected(_) => EventType::Rejected,
            Self::Failed { .. } => EventType::Failed,
        }
    }
}

/// An outcome, ready to be published. Its `Debug` prints nothing personal.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, schemars(title = "Outcome of a job", description = "What became of a job."))]
pub struct Event {
    /// Version of the event's shape.
    pub spec_version: Cow<'static, str>,
    /// UUIDv5 of key and type: a repeat can be recognised.
    pub id: Uuid,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// When it was found out.
    pub time: Timestamp,
    /// The upstream's reference, else the message's id, else the idempotency key.
    pub job_id: String,
    /// What the job belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
    /// The key that is sent; none for a job that has no canonical form because it is invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// The user's email.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Requests that were sent for the job, this outcome's own included.
    pub attempts: u32,
    /// Echoed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "serde_json::Value"))]
    pub metadata: Option<Box<RawJson>>,
    /// The row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The user at the partner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    /// Where the person verifies their identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_url: Option<String>,
    /// When that link dies. Only with a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_expires_at: Option<Timestamp>,
    /// Whether the answer was lost and the user was found by looking it up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub recovered: bool,
    /// Whether a failed job may have created a user: look before sending it anew.
    #[serde(default, skip_serializing_if = "is_false")]
    pub may_have_been_created: bool,
    /// What was wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Problem>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Event {
    /// The event of a job that has a key.
    pub fn of(outcome: Outcome, identity: Identity, key: IdempotencyKey, attempts: u32, time: Timestamp) -> Self {
        Self::build(outcome, identity, key, Some(key), attempts, time)
    }

    /// The event of a job that is invalid and therefore has no key. `surrogate_key` identifies it.
    pub fn of_invalid(
        problems: Vec<Problem>,
        identity: Identity,
        surrogate_key: IdempotencyKey,
        time: Timestamp,
    ) -> Self {
        Self::build(Outcome::Rejected(problems), identity, surrogate_key, None, 0, time)
    }

    fn build(
        outcome: Outcome,
        identity: Identity,
        id_base: IdempotencyKey,
        key: Option<IdempotencyKey>,
        attempts: u32,
        time: Timestamp,
    ) -> Self {
        let event_type = outcome.event_type();
        let Identity { job_id, batch_id, metadata, source, email } = identity;
        let mut event = Self {
            spec_version: Cow::Borrowed(SPEC_VERSION),
            id: Uuid::new_v5(id_base.uuid(), event_type.name().as_bytes()),
            event_type,
            time,
            job_id: job_id.unwrap_or_else(|| id_base.to_string()),
            batch_id,
            idempotency_key: key,
            email,
            attempts,
            metadata,
            source,
            service_id: None,
            verification_url: None,
            link_expires_at: None,
            recovered: false,
            may_have_been_created: false,
            errors: Vec::new(),
        };
        match outcome {
            Outcome::Created { service_id, verification_url, recovered } => {
                event.service_id = Some(service_id);
                event.verification_url = verification_url;
                event.recovered = recovered;
            }
            Outcome::Existing { service_id } => event.service_id = service_id,
            Outcome::Rejected(problems) => event.errors = problems,
            Outcome::Failed { problem, may_have_been_created } => {
                event.errors = vec![problem];
                event.may_have_been_created = may_have_been_created;
            }
        }
        event
    }

    /// Says of the link, if there is one, when it dies; `ttl`: how long links live.
    #[must_use]
    pub fn with_link_ttl(self, ttl: Option<Duration>) -> Self {
        let link_expires_at = self.verification_url.as_ref().and(ttl).map(|ttl| self.time.plus(ttl));
        Self { link_expires_at, ..self }
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        // A first guess that mostly does, instead of growing from 128 bytes.
        let mut json = Vec::with_capacity(1_024);
        let written = serde_json::to_writer(&mut json, self).map(|()| String::from_utf8(json));
        written.ok().and_then(Result::ok).unwrap_or_else(|| unreachable!("an event holds only strings and numbers"))
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("type", &self.event_type.name())
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(outcome: Outcome) -> Event {
        let identity = Identity {
            job_id: None,
            batch_id: Some("spring".to_owned()),
            metadata: serde_json::from_str(r#"{"b":1,"a":[2]}"#).unwrap(),
            source: Some(Source { file: "customers.csv".to_owned(), line: 7 }),
            email: Some("jane@example.com".to_owned()),
        };
        let key = IdempotencyKey::parse("550e8400-e29b-41d4-a716-446655440000").unwrap();
        Event::of(outcome, identity, key, 2, Timestamp::from_unix_ms(0))
    }

    #[test]
    fn an_event_is_published_as_the_contract_says() {
        let created = event(Outcome::Created {
            service_id: "acme-user-1".to_owned(),
            verification_url: Some("https://v.example/1".to_owned()),
            recovered: false,
        });
        assert_eq!(
            created.to_json(),
            concat!(
                r#"{"specVersion":"1.0","id":"84d68e1e-dd77-5429-8ab3-4e23b03642f3","type":"user.created","time":"1970-01-01T00:00:00.000Z","#,
                r#""jobId":"550e8400-e29b-41d4-a716-446655440000","batchId":"spring","idempotencyKey":"550e8400-e29b-41d4-a716-446655440000","#,
                r#""email":"jane@example.com","attempts":2,"metadata":{"b":1,"a":[2]},"source":{"file":"customers.csv","line":7},"#,
                r#""serviceId":"acme-user-1","verificationUrl":"https://v.example/1"}"#
            )
        );
    }

    #[test]
    fn a_link_says_when_it_dies_and_no_link_says_nothing() {
        let day = Some(Duration::from_secs(86_400));
        let with = |url: Option<&str>, ttl| {
            let verification_url = url.map(str::to_owned);
            let outcome = Outcome::Created { service_id: "1".to_owned(), verification_url, recovered: false };
            event(outcome).with_link_ttl(ttl).to_json()
        };
        let link = Some("https://v.example/1");
        assert!(with(link, day).contains(r#""linkExpiresAt":"1970-01-02T00:00:00.000Z""#));
        assert!(!with(link, None).contains("linkExpiresAt"));
        assert!(!with(None, day).contains("linkExpiresAt"));
    }

    #[test]
    fn the_same_outcome_twice_has_the_same_id_and_another_outcome_another() {
        let existing = || event(Outcome::Existing { service_id: None });
        assert_eq!(existing().id, existing().id);
        assert_ne!(existing().id, event(Outcome::Rejected(Vec::new())).id);
    }

    #[test]
    fn debug_output_holds_nothing_personal() {
        let shown = format!("{:?}", event(Outcome::Existing { service_id: Some("acme-user-1".to_owned()) }));
        assert!(!shown.contains("jane") && !shown.contains("acme"), "{shown}");
    }
}
