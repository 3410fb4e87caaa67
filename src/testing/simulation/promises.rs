//! What must hold after a run, whatever went wrong in it. Each promise says in words how it was broken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use crate::domain::{Event, EventType, Lane};
use crate::sandbox::{Model, UserView};
use crate::testing::simulation::plan::{JobPlan, Kind, Plan};
use crate::testing::simulation::record::Record;

/// What a run has left behind.
pub(super) struct Evidence<'w> {
    pub(super) plan: &'w Plan,
    pub(super) events: Vec<Event>,
    pub(super) dead: usize,
    pub(super) waiting: usize,
    pub(super) in_hand_max: usize,
    /// The bodies of the jobs that were on the queue twice.
    pub(super) copied: BTreeSet<Vec<u8>>,
    pub(super) keys: &'w BTreeMap<Vec<u8>, Uuid>,
    pub(super) is_over: bool,
}

/// Every promise that was broken.
pub(super) fn broken(evidence: &Evidence<'_>, model: &Model, now: Duration, record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    if !evidence.is_over {
        broken.push(format!("{} jobs still wait, long after nothing goes wrong any more", evidence.waiting));
    }
    let failed = evidence.events.iter().filter(|event| event.event_type == EventType::Failed).count();
    if evidence.dead != failed {
        broken.push(format!("{} dead letters and {failed} failed jobs", evidence.dead));
    }
    if evidence.in_hand_max > evidence.plan.policy.window {
        broken.push(format!("{} jobs in hand at once", evidence.in_hand_max));
    }
    for job in &evidence.plan.jobs {
        let of_job = Case::new(evidence, job, model, now, record);
        broken.extend(of_job.broken().into_iter().map(|what| format!("{} ({:?}): {what}", job.id, job.kind)));
    }
    broken.extend(users_nobody_asked_for(evidence, model, now));
    broken.extend(users_claimed_twice(evidence));
    broken.extend(rate_limiter(evidence.plan, record));
    broken.extend(signups(evidence, record));
    broken
}

/// One job and what is known about it.
struct Case<'w> {
    evidence: &'w Evidence<'w>,
    job: &'w JobPlan,
    events: Vec<&'w Event>,
    user: Option<UserView<'w>>,
    /// Nobody else has this email.
    is_alone: bool,
    /// It was refused by something that is not the partner.
    was_refused_oddly: bool,
    attempts: u32,
    was_told: bool,
}

impl<'w> Case<'w> {
    fn new(evidence: &'w Evidence<'w>, job: &'w JobPlan, model: &'w Model, now: Duration, record: &Record) -> Self {
        let key = evidence.keys.get(job.body.as_bytes()).copied();
        let was_refused_oddly = key.is_some_and(|key| record.is_marked(key, "odd-400"));
        let log = record.lock();
        Self {
            was_refused_oddly,
            evidence,
            job,
            events: evidence.events.iter().filter(|event| event.job_id == job.id).collect(),
            user: model.user_by_email(now, &job.email),
            is_alone: evidence.plan.jobs.iter().filter(|other| other.email == job.email).count() == 1,
            attempts: key.and_then(|key| log.attempts.get(&key).copied()).unwrap_or(0),
            was_told: key.is_some_and(|key| log.told.contains(&key)),
        }
    }

    fn has(&self, event_type: EventType) -> bool {
        self.events.iter().any(|event| event.event_type == event_type)
    }

    fn broken(&self) -> Vec<String> {
        let mut broken: Vec<String> = self.conservation().into_iter().collect();
        broken.extend(self.outcome());
        for event in &self.events {
            broken.extend(self.event(event));
        }
        broken
    }

    /// Every job ends, and ends in one way.
    fn conservation(&self) -> Option<String> {
        let count = self.events.len();
        if count == 0 {
            return Some("has no event".to_owned());
        }
        if !self.evidence.plan.is_broker && count > 1 {
            return Some(format!("has {count} events"));
        }
        // Of a copy that was put back before anything of it was sent, nobody knows what the other one does.
        if self.is_copied() {
            return None;
        }
        // A failed job whose acknowledgement was lost is tried once more and may fare better. With the same email
        // about twice under one name, a job that comes again can find the other's user.
        // A first refusal under a word that nobody knows stands for what it says; one that comes again is looked up.
        let is_told = |event: &Event| event.event_type != EventType::Rejected || !self.has_unknown_words();
        let others = self.events.iter().filter(|event| event.event_type != EventType::Failed && is_told(event));
        let ids: BTreeSet<Uuid> = others.map(|event| event.id).collect();
        let is_known = self.has_a_name_of_its_own()
            && !self.was_refused_oddly
            && self.knows_age()
            && !self.is_hidden_by_an_unknown_word();
        (ids.len() > 1 && is_known).then(|| format!("has {} different outcomes", ids.len()))
    }

    fn is_copied(&self) -> bool {
        self.evidence.copied.contains(self.job.body.as_bytes())
    }

    /// Whether its name is its own among the jobs with its email.
    fn has_a_name_of_its_own(&self) -> bool {
        let namesakes = self.evidence.plan.jobs.iter().filter(|other| other.email == self.job.email);
        namesakes.filter(|other| other.first_name == self.job.first_name).count() == 1
    }

    /// Without its age a user can't be told from our own.
    fn knows_age(&self) -> bool {
        !self.evidence.plan.has("created-at=missing")
    }

    /// Whether a refusal may mean something that nobody knows the partner's code for. Before anything was sent it is taken for what
    /// it says.
    fn has_unknown_words(&self) -> bool {
        self.evidence.plan.has("dup-user-code") || self.evidence.plan.has("key-used-code")
    }

    /// A list that shows users later than their keys are forgotten, or in another order on each page while it grows, and a refusal
    /// that nobody understands: not promised.
    fn is_hidden_by_an_unknown_word(&self) -> bool {
        let plan = self.evidence.plan;
        self.has_unknown_words() && (plan.lags() || plan.has("list-order=shuffled"))
    }

    /// It ends as its kind must.
    fn outcome(&self) -> Option<String> {
        let [created, existing, rejected, _] = EventType::ALL.map(|event_type| self.has(event_type));
        // Refused oddly before anything could create its user.
        let rejected = rejected && !self.was_refused_oddly;
        let wrong = match self.job.kind {
            Kind::New if self.is_alone => {
                ((existing || rejected) && !self.is_copied()) && !(rejected && self.is_hidden_by_an_unknown_word())
            }
            Kind::Before => (created && self.knows_age()) || rejected && !self.has_unknown_words(),
            Kind::Invalid => created || existing || self.has(EventType::Failed),
            Kind::Refused => created || existing || self.user.is_some(),
            Kind::New | Kind::Twin | Kind::Rival => rejected && !self.has_unknown_words(),
        };
        if wrong {
            let types: Vec<_> = self.events.iter().map(|event| event.event_type.short()).collect();
            return Some(format!("ended as {}", types.join(", ")));
        }
        let is_hidden = self.is_hidden_by_an_unknown_word();
        if matches!(self.job.kind, Kind::New) && self.user.is_some() && !self.is_claimed() && !is_hidden {
            return Some("its user was created and nobody says so".to_owned());
        }
        None
    }

    /// Whether some job says that it created this user, or that it may have.
    fn is_claimed(&self) -> bool {
        let of_email = self.evidence.plan.jobs.iter().filter(|other| other.email == self.job.email);
        let ids: BTreeSet<&str> = of_email.map(|job| job.id.as_str()).collect();
        let mut events = self.evidence.events.iter().filter(|event| ids.contains(event.job_id.as_str()));
        events.any(|event| event.event_type == EventType::Created || event.may_have_been_created)
    }

    /// An event says what is so.
    fn event(&self, event: &Event) -> Option<String> {
        if event.attempts > self.attempts {
            return Some(format!("was charged {} attempts for {} requests", event.attempts, self.attempts));
        }
        let id = self.user.as_ref().map(|user| user.service_id.as_str());
        match event.event_type {
            EventType::Created if self.user.as_ref().is_some_and(|user| user.first_name != self.job.first_name) => {
                Some("claims a user of another name".to_owned())
            }
            EventType::Created if event.service_id.as_deref() != id => Some("created somebody else".to_owned()),
            EventType::Created if event.recovered && event.verification_url.is_some() => {
                Some("is recovered and has a link".to_owned())
            }
            EventType::Created if !event.recovered => {
                let link = self.user.as_ref().map(|user| user.verification_url.as_str());
                let is_right = self.was_told && event.verification_url.as_deref() == link;
                (!is_right).then(|| "says created, which nobody told it".to_owned())
            }
            EventType::Existing if id.is_none() => Some("exists, and doesn't".to_owned()),
            EventType::Existing if event.service_id.is_some() && event.service_id.as_deref() != id => {
                Some("exists as somebody else".to_owned())
            }
            EventType::Failed if event.errors.iter().any(|problem| problem.code == "SINGLED_OUT") => {
                Some("was given up for answers about the account, which dislike nobody here".to_owned())
            }
            EventType::Failed if !event.may_have_been_created => Some("failed without saying what may be".to_owned()),
            _ => None,
        }
    }
}

/// What a worker has given to whom it knows for as long as it lives, and no other worker does: nobody claims a user by a look-up whom
/// another job has. An answer is better knowledge, and may come later where keys replay it.
fn users_claimed_twice(evidence: &Evidence<'_>) -> Vec<String> {
    let Plan { workers, deaths, stops, queue_errors, .. } = *evidence.plan;
    if workers > 1 || deaths + stops + queue_errors > 0.0 {
        return Vec::new();
    }
    let mut owners = BTreeMap::new();
    let mut broken = Vec::new();
    for event in evidence.events.iter().filter(|event| event.event_type == EventType::Created) {
        let owner = owners.insert(event.service_id.as_deref(), event);
        // Jobs that say the same have the same id.
        if let Some(owner) = owner.filter(|owner| owner.id != event.id && event.recovered) {
            broken.push(format!("{} claims the user of {}", event.job_id, owner.job_id));
        }
    }
    broken
}

/// Every user who is there was there before or was asked for by a job that may create one.
fn users_nobody_asked_for(evidence: &Evidence<'_>, model: &Model, now: Duration) -> Option<String> {
    let may_create = |job: &&JobPlan| !matches!(job.kind, Kind::Invalid | Kind::Refused);
    let asked: BTreeSet<&str> = evidence.plan.jobs.iter().filter(may_create).map(|job| job.email.as_str()).collect();
    let strangers = model.users(now).filter(|user| {
        let email = user.email.to_lowercase();
        !asked.contains(email.as_str()) && !email.ends_with("@elsewhere.example")
    });
    let count = strangers.count();
    (count > 0).then(|| format!("{count} users were created whom nobody asked for"))
}

/// No second has more requests than are allowed, over all workers and lives.
fn rate_limiter(plan: &Plan, record: &Record) -> Option<String> {
    let allowed = plan.rate?.get() as usize;
    let log = record.lock();
    let times: Vec<Duration> = log.departures.iter().map(|departure| departure.at).collect();
    let most = times.windows(allowed + 1).find(|window| window[allowed] - window[0] < Duration::from_secs(1));
    most.map(|window| format!("{} requests left within a second from {:?}", allowed + 1, window[0]))
}

/// Where nothing goes wrong, who signs up waits for the signups ahead and for a turn or two, never for the migration.
fn signups(evidence: &Evidence<'_>, record: &Record) -> Vec<String> {
    let plan = evidence.plan;
    let (true, Some(rate)) = (plan.is_calm, plan.rate) else { return Vec::new() };
    let log = record.lock();
    let turn = Duration::from_secs(1) / rate.get();
    let slot = 2 * plan.travel_max;
    let signups: Vec<&JobPlan> = plan.jobs.iter().filter(|job| job.lane == Lane::Signup).collect();
    let mut broken = Vec::new();
    for job in signups.iter().filter(|job| job.kind == Kind::New) {
        let Some(key) = evidence.keys.get(job.body.as_bytes()) else { continue };
        let left = log.departures.iter().find(|departure| departure.key == Some(*key)).map(|departure| departure.at);
        let ahead = signups.iter().filter(|other| other.at <= job.at).count() as u32;
        // Each ahead of it takes a turn, its slot, and may be looked up.
        let bound = (ahead + 3) * (2 * turn + slot);
        let waited = left.map(|left| left.saturating_sub(job.at));
        if waited.is_none_or(|waited| waited > bound) {
            broken.push(format!("{}: signed up and waited {waited:?}, {bound:?} at most was promised", job.id));
        }
    }
    broken
}
