//! Which faults can meet which decisions, and which did.

use std::collections::BTreeMap;
use std::fmt;

/// Everything that a job can meet, in the order of the table. `nothing`: it met none of the others.
pub const FAULTS: [&str; 37] = [
    "nothing",
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
    "before",
    "twin",
    "rival",
    "skew",
    "no-created-at",
    "shuffled",
    "grows",
    "lag",
    "replay",
];

/// Every decision: what an answer means, then what a look-up leads to.
pub const ROWS: [&str; 33] = [
    "created",
    "refused",
    "key_used",
    "exists",
    "unknown",
    "throttled",
    "account",
    "page",
    "not_sent",
    "key_used_ours",
    "key_used_other",
    "key_used_nobody",
    "key_used_unavailable",
    "key_used_used_up",
    "exists_sent_ours",
    "exists_sent_other",
    "exists_sent_nobody",
    "exists_sent_unavailable",
    "exists_sent_used_up",
    "exists_new_found",
    "exists_new_nobody",
    "exists_new_unavailable",
    "exists_new_used_up",
    "giving_up_ours",
    "giving_up_other",
    "giving_up_nobody",
    "giving_up_unavailable",
    "refused_ours",
    "refused_other",
    "refused_early",
    "refused_for_good",
    "refused_unavailable",
    "refused_used_up",
];

/// What may have created somebody, so that the job counts as sent from then on.
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

/// Why this fault can't lead to this decision, or only by way of another job of the same user; `None`: it can.
pub fn infeasible(fault: &str, row: &str) -> Option<&'static str> {
    match (fault, row) {
        ("nothing", "created" | "refused") => None,
        ("nothing", _) => Some("nobody is asked twice, refused or looked up where nothing is wrong"),
        ("before", "created") => Some("the email is taken"),
        ("before" | "twin" | "rival", "refused") => Some("nobody whom the partner refuses has an email in common"),
        ("replay", row) if row.starts_with("key_used") => Some("who replays refuses no key"),
        ("no-created-at", row) if row.ends_with("_other") => Some("without an age only a name tells somebody else"),
        ("odd-400", row) if row.starts_with("exists_new") => Some("a job that was never sent ends with it"),
        (fault, row) if row.starts_with("exists_new") && COUNTS_AS_SENT.contains(&fault) => {
            Some("the job counts as sent")
        }
        _ => None,
    }
}

/// How often each fault has met each decision.
#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<(&'static str, &'static str), u64>);

impl Coverage {
    /// Counts what a run has met.
    pub fn add(&mut self, met: &[(&'static str, &'static str)]) {
        for pair in met {
            *self.0.entry(*pair).or_default() += 1;
        }
    }

    /// What another part of the seeds has met.
    pub fn merge(&mut self, other: Self) {
        for (pair, count) in other.0 {
            *self.0.entry(pair).or_default() += count;
        }
    }

    /// In how many runs.
    pub fn count(&self, fault: &str, row: &str) -> u64 {
        self.0.iter().filter(|((f, r), _)| *f == fault && *r == row).map(|(_, count)| *count).sum()
    }

    /// What could have been met and wasn't.
    pub fn missing(&self) -> Vec<(&'static str, &'static str)> {
        let pairs = ROWS.into_iter().flat_map(|row| FAULTS.into_iter().map(move |fault| (fault, row)));
        pairs.filter(|(fault, row)| infeasible(fault, row).is_none() && self.count(fault, row) == 0).collect()
    }
}

/// A table: a line for each decision, a column for each fault.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:24}", "")?;
        for fault in FAULTS {
            write!(f, " {:>5}", fault.chars().take(5).collect::<String>())?;
        }
        for row in ROWS {
            write!(f, "\n{row:24}")?;
            for fault in FAULTS {
                match (self.count(fault, row), infeasible(fault, row)) {
                    (0, Some(_)) => write!(f, " {:>5}", "-")?,
                    (count, _) => write!(f, " {count:>5}")?,
                }
            }
        }
        writeln!(f)
    }
}
