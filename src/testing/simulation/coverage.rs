//! Which faults can meet which decisions, and which did.

use std::collections::BTreeMap;
use std::fmt;

use strum::VariantArray as _;

use crate::domain::decide::LookUpCase;

/// The column of decisions that were met without any fault.
pub(super) const NO_FAULT: &str = "nothing";

/// Every fault that a job can meet, in the order of the table.
const FAULTS: [&str; 37] = [
    NO_FAULT,
    "drop",
    "lost",
    "cut",
    "error-before",
    "error-after",
    "truncated",
    "wrong-json",
    "drip",
    "429",
    "429-date",
    "429-bare",
    "401",
    "402",
    "403",
    "404",
    "html-200",
    "html-502",
    "odd-400",
    "late",
    "unreachable",
    "list-failed",
    "list-throttled",
    "list-account",
    "death",
    "queue-error",
    "disconnect",
    "ack-lost",
    "existed",
    "duplicate",
    "same-email",
    "skew",
    "no-created-at",
    "shuffled",
    "growing",
    "lag",
    "replay",
];

/// What an answer means. The decisions after a look-up are those of [`LookUpCase`].
const ANSWERS: [&str; 9] =
    ["created", "refused", "key_used", "exists", "unknown", "throttled", "account", "page", "not_sent"];

/// Faults that may have created a user, so that the job counts as sent.
const COUNTS_AS_SENT: [&str; 13] = [
    "drop",
    "lost",
    "cut",
    "error-before",
    "error-after",
    "truncated",
    "wrong-json",
    "drip",
    "html-200",
    "html-502",
    "late",
    "disconnect",
    "ack-lost",
];

/// Every decision, in the order of the table.
fn decisions() -> impl Iterator<Item = &'static str> {
    ANSWERS.into_iter().chain(LookUpCase::VARIANTS.iter().map(|case| case.code()))
}

/// Returns why this fault can't lead to this decision, except through another job of the same user; `None`: it can.
fn infeasible(fault: &str, decision: &str) -> Option<&'static str> {
    match (fault, decision) {
        (NO_FAULT, "created" | "refused") => None,
        (NO_FAULT, _) => Some("without a fault, no job is sent twice, refused or looked up"),
        ("existed", "created") => Some("the email is taken"),
        ("existed", decision) if decision.starts_with("id_missing") => Some("the email is taken"),
        (_, "id_missing_other") => Some("the partner says that it created the user, so it is this job's"),
        ("existed" | "duplicate" | "same-email", "refused") => {
            Some("the partner refuses jobs with an email of their own")
        }
        ("replay", decision) if decision.starts_with("key_used") => Some("a partner that replays refuses no key"),
        ("no-created-at", decision) if decision.ends_with("_other") => Some("without an age, only a name is compared"),
        ("odd-400", decision) if decision.starts_with("exists_new") => Some("it ends a job that was never sent"),
        (fault, decision) if decision.starts_with("exists_new") && COUNTS_AS_SENT.contains(&fault) => {
            Some("the job counts as sent")
        }
        _ => None,
    }
}

/// How often each fault has met each decision.
#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<(&'static str, &'static str), u64>);

impl Coverage {
    /// Adds the pairs of fault and decision that a run has met.
    pub fn add(&mut self, met: &[(&'static str, &'static str)]) {
        for pair in met {
            *self.0.entry(*pair).or_default() += 1;
        }
    }

    /// Adds the coverage of other seeds.
    pub fn merge(&mut self, other: Self) {
        for (pair, count) in other.0 {
            *self.0.entry(pair).or_default() += count;
        }
    }

    /// Returns the number of runs in which the fault met the decision.
    fn count(&self, fault: &'static str, decision: &'static str) -> u64 {
        self.0.get(&(fault, decision)).copied().unwrap_or(0)
    }

    /// Returns the feasible pairs that were not met.
    pub fn missing(&self) -> Vec<(&'static str, &'static str)> {
        let pairs = decisions().flat_map(|decision| FAULTS.into_iter().map(move |fault| (fault, decision)));
        pairs
            .filter(|(fault, decision)| infeasible(fault, decision).is_none() && self.count(fault, decision) == 0)
            .collect()
    }
}

/// A table with a line for each decision and a column for each fault.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:24}", "")?;
        for fault in FAULTS {
            write!(f, " {:>5}", fault.chars().take(5).collect::<String>())?;
        }
        for decision in decisions() {
            write!(f, "\n{decision:24}")?;
            for fault in FAULTS {
                match (self.count(fault, decision), infeasible(fault, decision)) {
                    (0, Some(_)) => write!(f, " {:>5}", "-")?,
                    (count, _) => write!(f, " {count:>5}")?,
                }
            }
        }
        writeln!(f)
    }
}
