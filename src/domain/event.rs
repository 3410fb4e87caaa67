//! The event with a job's outcome, exactly as it is published.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJson;
use strum::VariantArray;
use uuid::Uuid;

use crate::domain::job::Identity;
use crate::domain::{IdempotencyKey, LinkLoss, Problem, ServiceId, Source, Timestamp, VerificationUrl};

/// Version of the event's shape. It changes only with a change that can break a reader.
pub const SPEC_VERSION: &str = "1.0";

/// The type of an event; its name is also the routing key.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "lowercase", prefix = "user.")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum EventType {
    /// The API created the user.
    #[serde(rename = "user.created")]
    Created,
    /// A user with this email existed before this job.
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
    /// Every type, in the order of reports.
    pub const ALL: [Self; 4] = *Self::VARIANTS.as_array().unwrap();

    /// The routing key.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The name without `user.`, for result files and labels.
    pub fn short(self) -> &'static str {
        self.name().split_at("user.".len()).1
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This job created the user.
    Created {
        /// The new user.
        service_id: ServiceId,
        /// Where the person verifies their identity, or why that isn't known.
        link: Result<VerificationUrl, LinkLoss>,
        /// Whether the answer was lost and a look-up found the user.
        recovered: bool,
    },
    /// The user existed before this job.
    Existing {
        /// `None` where the user list doesn't have it.
        service_id: Option<ServiceId>,
    },
    /// Validation or the API refused the job.
    Rejected(Vec<Problem>),
    /// Attempts or time ran out.
    Failed {
        /// The reason.
        problem: Problem,
        /// Whether a user may have been created by a request whose answer was lost.
        may_have_been_created: bool,
    },
}

impl Outcome {
    /// Returns the type of the event that reports this outcome.
    pub const fn event_type(&self) -> EventType {
        match self {
            Self::Created { .. } => EventType::Created,
            Self::Existing { .. } => EventType::Existing,
            Self::Rejected(_) => EventType::Rejected,
            Self::Failed { .. } => EventType::Failed,
        }
    }

    /// Adds a link that an earlier answer of the job had to a created user without one.
    #[must_use]
    pub fn with_link(self, earlier: Option<&VerificationUrl>) -> Self {
        match (self, earlier) {
            (Self::Created { service_id, link: Err(_), recovered }, Some(earlier)) => {
                Self::Created { service_id, link: Ok(earlier.clone()), recovered }
            }
            (outcome, _) => outcome,
        }
    }
}

/// An outcome, ready to be published. Its `Debug` prints no personal data.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, schemars(title = "Outcome of a job", description = "How a job ended."))]
pub struct Event {
    /// Version of the event's shape.
    pub spec_version: Cow<'static, str>,
    /// UUIDv5 of key and type, the same for a repeated event.
    pub id: Uuid,
    /// The outcome.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// When the outcome was decided.
    pub time: Timestamp,
    /// The upstream's reference, else the message's id, else the idempotency key.
    pub job_id: String,
    /// The batch of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
    /// The key that is sent; absent for an invalid job, which has no canonical form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// The user's email.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Requests that were sent for the job, including the one with this outcome.
    pub attempts: u32,
    /// The job's metadata, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "serde_json::Value"))]
    pub metadata: Option<Box<RawJson>>,
    /// The row of the input file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The partner's id of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(min = 1, max = 255)))]
    pub service_id: Option<String>,
    /// Where the person verifies their identity. A failed job has it where the API sent the link without an id and no
    /// look-up found the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(max = 2048), regex(pattern = r"^https://")))]
    pub verification_url: Option<String>,
    /// Why a created user has no link: the answer was lost, the API sent none, or it sent something that is no link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_missing: Option<LinkLoss>,
    /// When the verification link expires. Present only with a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_expires_at: Option<Timestamp>,
    /// Whether the answer was lost and a look-up found the user.
    #[serde(default, skip_serializing_if = "is_false")]
    pub recovered: bool,
    /// Whether a failed job may have created a user. Retry the same row; another email could create a second user.
    #[serde(default, skip_serializing_if = "is_false")]
    pub may_have_been_created: bool,
    /// The user that the job replaces, as it was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(min = 1, max = 255)))]
    pub replaces: Option<String>,
    /// Whether the replaced user was deleted, or may have been, and no new user was created.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    /// What is wrong with the job. An existing user has an error if it was to be replaced and can't be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Problem>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Event {
    /// Creates the event of a job that has a key.
    pub fn of(outcome: Outcome, identity: Identity, key: IdempotencyKey, attempts: u32, time: Timestamp) -> Self {
        Self::build(outcome, identity, key, Some(key), attempts, time)
    }

    /// Creates the event of an invalid job, which has no key. `surrogate_key` identifies it.
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
        let Identity { job_id, batch_id, metadata, source, email, replaces } = identity;
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
            link_missing: None,
            link_expires_at: None,
            recovered: false,
            may_have_been_created: false,
            replaces,
            deleted: false,
            errors: Vec::new(),
        };
        match outcome {
            Outcome::Created { service_id, link, recovered } => {
                event.service_id = Some(service_id.into_string());
                event.link_missing = link.as_ref().err().copied();
                event.verification_url = link.ok().map(VerificationUrl::into_string);
                event.recovered = recovered;
            }
            Outcome::Existing { service_id } => event.service_id = service_id.map(ServiceId::into_string),
            Outcome::Rejected(problems) => event.errors = problems,
            Outcome::Failed { problem, may_have_been_created } => {
                event.errors = vec![problem];
                event.may_have_been_created = may_have_been_created;
            }
        }
        event
    }

    /// Adds a link that an earlier answer of the job had, if the event has none.
    #[must_use]
    pub fn with_link(mut self, link: Option<VerificationUrl>) -> Self {
        if let (None, Some(link)) = (&self.verification_url, link) {
            self.verification_url = Some(link.into_string());
            self.link_missing = None;
        }
        self
    }

    /// Adds the expiry of the link, if there is one. `ttl` is the lifetime of links.
    #[must_use]
    pub fn with_link_ttl(self, ttl: Option<Duration>) -> Self {
        let link_expires_at = self.verification_url.as_ref().and(ttl).map(|ttl| self.time.plus(ttl));
        Self { link_expires_at, ..self }
    }

    /// Adds what became of the user that the job replaces: whether it is deleted or may be, which matters where no user is
    /// created instead, and why it can't be deleted.
    #[must_use]
    pub fn with_replacement(mut self, is_deleted: bool, kept: Option<Problem>) -> Self {
        self.deleted = is_deleted && matches!(self.event_type, EventType::Rejected | EventType::Failed);
        self.errors.extend(kept);
        self
    }

    /// Returns the event as one line of JSON.
    pub fn to_json(&self) -> String {
        // Most events fit, so that the buffer doesn't grow from 128 bytes.
        let mut json = Vec::with_capacity(1_024);
        let written = serde_json::to_writer(&mut json, self).map(|()| String::from_utf8(json));
        written.ok().and_then(Result::ok).unwrap_or_else(|| unreachable!("an event has only strings and numbers"))
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
            replaces: None,
        };
        let key = IdempotencyKey::parse("550e8400-e29b-41d4-a716-446655440000").unwrap();
        Event::of(outcome, identity, key, 2, Timestamp::from_unix_ms(0))
    }

    fn link() -> VerificationUrl {
        VerificationUrl::parse("https://v.example/1").unwrap()
    }

    fn created(link: Result<VerificationUrl, LinkLoss>, recovered: bool) -> Outcome {
        Outcome::Created { service_id: ServiceId::parse("acme-user-1").unwrap(), link, recovered }
    }

    #[test]
    fn an_event_is_published_as_the_contract_says() {
        let created = event(created(Ok(link()), false));
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
    fn an_event_says_why_its_link_is_missing() {
        for (reason, recovered) in
            [(LinkLoss::LostAnswer, true), (LinkLoss::NotSent, false), (LinkLoss::Unusable, false)]
        {
            let json = event(created(Err(reason), recovered)).to_json();
            assert!(json.contains(&format!(r#""linkMissing":"{}""#, reason.code())), "{json}");
            assert!(!json.contains("verificationUrl"), "{json}");
        }
        assert!(!event(created(Ok(link()), false)).to_json().contains("linkMissing"));
        assert!(!event(Outcome::Existing { service_id: None }).to_json().contains("linkMissing"));
    }

    #[test]
    fn a_link_of_an_earlier_answer_is_added_and_replaces_none() {
        let lost = || created(Err(LinkLoss::LostAnswer), true);
        assert_eq!(lost().with_link(Some(&link())), created(Ok(link()), true));
        assert_eq!(lost().with_link(None), lost());
        let other = VerificationUrl::parse("https://v.example/2").unwrap();
        assert_eq!(created(Ok(other.clone()), false).with_link(Some(&link())), created(Ok(other.clone()), false));
        let failed = Outcome::Failed { problem: Problem::whole("ID_NOT_FOUND", "no"), may_have_been_created: true };
        let event_of = |outcome: Outcome| event(outcome).with_link(Some(link()));
        for outcome in [failed, Outcome::Existing { service_id: None }, lost()] {
            let event = event_of(outcome);
            assert_eq!((event.verification_url.as_deref(), event.link_missing), (Some("https://v.example/1"), None));
        }
        let kept = event_of(created(Ok(other), false));
        assert_eq!(kept.verification_url.as_deref(), Some("https://v.example/2"));
    }

    #[test]
    fn only_an_event_with_a_link_has_its_expiry() {
        let day = Some(Duration::from_secs(86_400));
        let with = |link, ttl| event(created(link, false)).with_link_ttl(ttl).to_json();
        assert!(with(Ok(link()), day).contains(r#""linkExpiresAt":"1970-01-02T00:00:00.000Z""#));
        assert!(!with(Ok(link()), None).contains("linkExpiresAt"));
        assert!(!with(Err(LinkLoss::NotSent), day).contains("linkExpiresAt"));
    }

    #[test]
    fn a_repeated_outcome_has_the_same_id_and_another_outcome_a_different_one() {
        let existing = || event(Outcome::Existing { service_id: None });
        assert_eq!(existing().id, existing().id);
        assert_ne!(existing().id, event(Outcome::Rejected(Vec::new())).id);
    }

    #[test]
    fn debug_output_has_no_personal_data() {
        let shown = format!("{:?}", event(Outcome::Existing { service_id: ServiceId::parse("acme-user-1") }));
        assert!(!shown.contains("jane") && !shown.contains("acme"), "{shown}");
    }
}
