//! Outcome mix: the last outcomes counted by type, their errors by field and code, and missing links by reason.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::domain::answer::looks_like_a_code;
use crate::domain::{Event, EventType, LinkLoss};

/// The cluster of rows that another run sent.
const SENT_BY_ANOTHER_RUN: &str = "sent minutes ago by another run and reported as created";

/// Most clusters in a text.
const SHOWN_MAX: usize = 10;

/// An outcome, reduced to what is counted.
pub(super) struct RecordedOutcome {
    pub(super) event_type: EventType,
    /// Why a created user has no link; `None` if it has one.
    pub(super) link_lost: Option<LinkLoss>,
    cluster: Option<String>,
}

impl RecordedOutcome {
    pub(super) fn of(event: &Event) -> Self {
        Self { event_type: event.event_type, link_lost: event.link_missing, cluster: cluster(event) }
    }

    /// As [`Self::of`], but the link isn't counted as lost if its answer was lost in an earlier delivery.
    pub(super) fn sent_in_earlier_delivery(event: &Event) -> Self {
        let outcome = Self::of(event);
        let link_lost = outcome.link_lost.filter(|reason| *reason != LinkLoss::LostAnswer);
        Self { link_lost, ..outcome }
    }

    /// The outcome of a row that another run sent a moment ago: it counts as a user who existed before.
    pub(super) fn sent_by_another_run() -> Self {
        Self { event_type: EventType::Existing, link_lost: None, cluster: Some(SENT_BY_ANOTHER_RUN.to_owned()) }
    }
}

/// Why there is no link, or field and code of the first problem. The API's text is left out: it may hold personal data.
fn cluster(event: &Event) -> Option<String> {
    if let Some(reason) = event.link_missing {
        return Some(format!("without a link: {}", reason.meaning()));
    }
    let problem = event.errors.first()?;
    let code = if looks_like_a_code(&problem.code) { &problem.code } else { "OTHER" };
    Some(problem.field.as_ref().map_or_else(|| code.to_owned(), |field| format!("{field}: {code}")))
}

/// Displays as `18 created, 2 rejected (2 x USER_BLACKLISTED)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutcomeMix {
    /// Number of outcomes by type, without types that didn't occur.
    pub outcomes: Vec<(EventType, u64)>,
    /// Number of errors by field and code, and of missing links by reason, the most frequent first.
    pub clusters: Vec<(String, u64)>,
}

impl OutcomeMix {
    pub(super) fn of(recent: &VecDeque<RecordedOutcome>) -> Self {
        let count = |event_type| recent.iter().filter(|outcome| outcome.event_type == event_type).count() as u64;
        let outcomes = EventType::ALL.map(|event_type| (event_type, count(event_type)));
        let mut clusters: HashMap<&String, u64> = HashMap::new();
        for cluster in recent.iter().filter_map(|outcome| outcome.cluster.as_ref()) {
            *clusters.entry(cluster).or_default() += 1;
        }
        let mut clusters: Vec<(String, u64)> =
            clusters.into_iter().map(|(name, count)| (name.clone(), count)).collect();
        clusters.sort_by(|(name_a, a), (name_b, b)| b.cmp(a).then_with(|| name_a.cmp(name_b)));
        Self { outcomes: outcomes.into_iter().filter(|(_, count)| *count > 0).collect(), clusters }
    }
}

impl fmt::Display for OutcomeMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcomes: Vec<_> =
            self.outcomes.iter().map(|(outcome, count)| format!("{count} {}", outcome.short())).collect();
        f.write_str(&outcomes.join(", "))?;
        let mut clusters: Vec<_> =
            self.clusters.iter().take(SHOWN_MAX).map(|(name, count)| format!("{count} x {name}")).collect();
        if self.clusters.len() > SHOWN_MAX {
            clusters.push(format!("{} more kinds", self.clusters.len() - SHOWN_MAX));
        }
        if clusters.is_empty() { Ok(()) } else { write!(f, " ({})", clusters.join(", ")) }
    }
}
