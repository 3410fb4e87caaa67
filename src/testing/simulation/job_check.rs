//! What must hold for one job after a run.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::{Event, EventType};
use crate::sandbox::{Model, UserView};
use crate::testing::simulation::evidence::RunEvidence;
use crate::testing::simulation::plan::{JobKind, JobPlan, ReplacedUser};
use crate::testing::simulation::record::RunRecord;
use crate::testing::simulation::replacing;

/// A job, and what is known about it.
pub(super) struct JobCheck<'w> {
    evidence: &'w RunEvidence<'w>,
    job: &'w JobPlan,
    events: Vec<&'w Event>,
    user: Option<UserView<'w>>,
    model: &'w Model,
    now: Duration,
    /// No other job has this email.
    is_only_job_of_email: bool,
    /// It got a refusal that isn't the partner's.
    was_refused_oddly: bool,
    /// Requests that may have been counted as attempts.
    attempts: u32,
    was_answered_created: bool,
    /// It got an answer that its user was created, without the id.
    was_answered_without_id: bool,
    /// Another person's job has the same key.
    shares_key: bool,
}

impl<'w> JobCheck<'w> {
    pub(super) fn new(
        evidence: &'w RunEvidence<'w>,
        job: &'w JobPlan,
        model: &'w Model,
        now: Duration,
        record: &RunRecord,
    ) -> Self {
        let key = evidence.keys.get(job.body.as_bytes()).copied();
        let was_refused_oddly = key.is_some_and(|key| record.is_marked(key, "odd-400"));
        let was_answered_without_id = key.is_some_and(|key| record.is_marked(key, "id-none"));
        let log = record.lock();
        Self {
            model,
            now,
            was_answered_without_id,
            was_refused_oddly,
            evidence,
            job,
            events: evidence.events.iter().filter(|event| event.job_id == job.id).collect(),
            user: model.user_by_email(now, &job.email),
            is_only_job_of_email: evidence.plan.jobs.iter().filter(|other| other.email == job.email).count() == 1,
            attempts: key.and_then(|key| log.attempts.get(&key).copied()).unwrap_or(0),
            was_answered_created: key.is_some_and(|key| log.answered_created.contains(&key)),
            shares_key: evidence.shares_key(job),
        }
    }

    /// Returns every promise that was broken.
    pub(super) fn broken(&self) -> Vec<String> {
        if let JobKind::Replaces(replaced) = self.job.kind {
            return self.broken_replacing(replaced);
        }
        let mut broken: Vec<String> = self.conservation().into_iter().collect();
        broken.extend(self.outcome());
        for event in &self.events {
            broken.extend(self.event(event));
        }
        broken
    }

    /// Returns every promise that was broken to a job that replaces a user.
    fn broken_replacing(&self, replaced: ReplacedUser) -> Vec<String> {
        let count = self.events.len();
        let mut broken: Vec<String> =
            replacing::broken(self.evidence, self.job, replaced, self.model, self.now).into_iter().collect();
        if count == 0 || !self.evidence.plan.is_broker && count > 1 {
            broken.push(format!("has {count} events"));
        }
        broken.extend(
            self.events.iter().filter(|event| event.event_type == EventType::Created).filter_map(|it| self.created(it)),
        );
        broken
    }

    fn has(&self, event_type: EventType) -> bool {
        self.events.iter().any(|event| event.event_type == event_type)
    }

    /// Every job has an outcome, and only one.
    fn conservation(&self) -> Option<String> {
        let count = self.events.len();
        if count == 0 {
            return Some("has no event".to_owned());
        }
        if !self.evidence.plan.is_broker && count > 1 {
            return Some(format!("has {count} events"));
        }
        // The copy that was requeued before anything was sent doesn't know what the original does.
        if self.is_duplicated() {
            return None;
        }
        // A failed job whose acknowledgement was lost is tried again and may succeed. With the same email twice under
        // one name, a job that is delivered again may find the other job's user. An unknown code is taken literally at
        // first; the job is looked up when it is delivered again.
        let counts = |event: &Event| event.event_type != EventType::Rejected || !self.has_unknown_codes();
        let outcomes = self.events.iter().filter(|event| event.event_type != EventType::Failed && counts(event));
        let ids: BTreeSet<Uuid> = outcomes.map(|event| event.id).collect();
        let is_promised = self.has_name_of_its_own()
            && !self.was_refused_oddly
            && self.knows_age()
            && !self.shares_key
            && !self.is_hidden_by_unknown_code();
        (ids.len() > 1 && is_promised).then(|| format!("has {} different outcomes", ids.len()))
    }

    fn is_duplicated(&self) -> bool {
        self.evidence.duplicated.contains(self.job.body.as_bytes())
    }

    /// Returns whether no other job with its email has its name.
    fn has_name_of_its_own(&self) -> bool {
        let same_email = self.evidence.plan.jobs.iter().filter(|other| other.email == self.job.email);
        same_email.filter(|other| other.first_name == self.job.first_name).count() == 1
    }

    /// Returns whether the list says how old users are. Without the age, an older user can't be distinguished.
    fn knows_age(&self) -> bool {
        !self.evidence.plan.has("created-at=missing")
    }

    /// Returns whether the partner has codes that the settings don't know. Before anything was sent, a refusal with
    /// an unknown code is taken literally.
    fn has_unknown_codes(&self) -> bool {
        self.evidence.plan.has("dup-user-code") || self.evidence.plan.has("key-used-code")
    }

    /// Returns whether an unknown code can't be resolved by a look-up: the list shows users only when their keys have
    /// expired, or changes its order while it is read. Nothing is promised then.
    fn is_hidden_by_unknown_code(&self) -> bool {
        let plan = self.evidence.plan;
        self.has_unknown_codes() && (plan.lags() || plan.has("list-order=shuffled"))
    }

    /// The job ends as its kind must.
    fn outcome(&self) -> Option<String> {
        let [created, existing, rejected, _] = EventType::ALL.map(|event_type| self.has(event_type));
        // An odd refusal is taken literally before anything could create the user.
        let rejected = rejected && !self.was_refused_oddly && !self.is_refused_for_its_key();
        let is_hidden = self.is_hidden_by_unknown_code();
        let existing = existing && !self.may_get_answers_of_another();
        let is_wrong = match self.job.kind {
            JobKind::New if self.is_only_job_of_email => {
                let is_unknown_key = self.shares_key && self.has_unknown_codes();
                ((existing || rejected) && !self.is_duplicated()) && !(rejected && (is_hidden || is_unknown_key))
            }
            JobKind::Existed => (created && self.knows_age()) || rejected && !self.has_unknown_codes(),
            JobKind::Replaces(_) => false,
            JobKind::Invalid => created || existing || self.has(EventType::Failed),
            JobKind::Refused => created || existing || self.user.is_some(),
            JobKind::KeyReused => (existing || rejected) && !self.is_duplicated() && !self.has_unknown_codes(),
            JobKind::New | JobKind::Duplicate | JobKind::SameEmail => rejected && !self.has_unknown_codes(),
        };
        if is_wrong {
            let types: Vec<_> = self.events.iter().map(|event| event.event_type.short()).collect();
            return Some(format!("ended as {}", types.join(", ")));
        }
        if matches!(self.job.kind, JobKind::New) && self.user.is_some() && !self.is_claimed() && !is_hidden {
            return Some("its user was created and no event reports it".to_owned());
        }
        None
    }

    /// Returns whether it was refused because another person's job has its key: the one that came first is accepted.
    fn is_refused_for_its_key(&self) -> bool {
        let mut rejected = self.events.iter().filter(|event| event.event_type == EventType::Rejected);
        self.shares_key && rejected.all(|event| event.errors.iter().any(|error| error.code == "IDEMPOTENCY_KEY_IN_USE"))
    }

    /// Returns whether the partner may replay the answers to another person's job with the same key. A worker notices
    /// it only if it received that job itself, and didn't restart since.
    fn may_get_answers_of_another(&self) -> bool {
        self.shares_key && self.evidence.plan.replays()
    }

    /// Returns whether a job with this email reports that it created the user, or that it may have.
    fn is_claimed(&self) -> bool {
        let same_email = self.evidence.plan.jobs.iter().filter(|other| other.email == self.job.email);
        let ids: BTreeSet<&str> = same_email.map(|job| job.id.as_str()).collect();
        let mut events = self.evidence.events.iter().filter(|event| ids.contains(event.job_id.as_str()));
        events.any(|event| event.event_type == EventType::Created || event.may_have_been_created)
    }

    /// An event is true.
    fn event(&self, event: &Event) -> Option<String> {
        if event.attempts > self.attempts {
            return Some(format!("was charged {} attempts for {} requests", event.attempts, self.attempts));
        }
        match event.event_type {
            EventType::Created => self.created(event),
            EventType::Existing => self.existing(event),
            EventType::Failed => self.failed(event),
            EventType::Rejected => None,
        }
    }

    fn service_id(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.service_id.as_str())
    }

    fn created(&self, event: &Event) -> Option<String> {
        if self.may_get_answers_of_another() {
            return None;
        }
        if self.user.as_ref().is_some_and(|user| user.first_name != self.job.first_name) {
            return Some("claims a user of another name".to_owned());
        }
        if event.service_id.as_deref() != self.service_id() {
            return Some("created another user".to_owned());
        }
        let link = self.user.as_ref().map(|user| user.verification_url.as_str());
        let has_own_link = event.verification_url.as_deref() == link;
        if event.recovered {
            // Only an answer without an id leads to a look-up by a job that has a link.
            let has_wrong_link = event.verification_url.is_some() && !(self.was_answered_without_id && has_own_link);
            return has_wrong_link.then(|| "is recovered and has a link".to_owned());
        }
        let is_true = self.was_answered_created && has_own_link;
        (!is_true).then(|| "reports created without that answer".to_owned())
    }

    fn existing(&self, event: &Event) -> Option<String> {
        if self.may_get_answers_of_another() {
            return None;
        }
        let id = self.service_id();
        if id.is_none() {
            return Some("is existing, but there is no user".to_owned());
        }
        let is_other = event.service_id.is_some() && event.service_id.as_deref() != id;
        is_other.then(|| "is existing as another user".to_owned())
    }

    fn failed(&self, event: &Event) -> Option<String> {
        if event.errors.iter().any(|problem| problem.code == "OUTLIER_JOB") {
            return Some("failed as an outlier, although no answer depends on the job".to_owned());
        }
        (!event.may_have_been_created).then(|| "failed without reporting that a user may exist".to_owned())
    }
}
