//! Prints the promised and the actual numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plu_onboard::sandbox::SandboxStats;

use crate::KillPlan;
use crate::jobs::{JobKind, Jobs};
use crate::reader::Outcomes;

pub(crate) struct Findings {
    pub(crate) outcomes: Outcomes,
    pub(crate) repeats: u64,
    pub(crate) stats: SandboxStats,
    /// Messages left in the queues.
    pub(crate) left: [(&'static str, u32); 4],
}

/// Prints the report. Returns whether every promise was kept.
pub(crate) fn print(plan: &KillPlan, jobs: &Jobs, findings: &Findings, returns: &[Duration], took: Duration) -> bool {
    let KillPlan { jobs: count, broker_kills, worker_kills } = plan;
    println!(
        "{count} jobs ({} people, {} invalid), broker killed {broker_kills} times, worker {worker_kills} times; {:.1} s",
        jobs.distinct(),
        jobs.invalid(),
        took.as_secs_f64(),
    );
    let mut is_kept = true;
    let mut line = |what: &str, promised: u64, actual: u64| {
        let mark = if promised == actual { "ok" } else { "BROKEN" };
        println!("{mark:>6}  {what}: {actual}, promised {promised}");
        is_kept &= promised == actual;
    };
    line("users created at the API", jobs.distinct(), findings.stats.model.created);
    line("users in the list", jobs.distinct(), findings.stats.model.users);
    line("jobs with an outcome", u64::from(*count), findings.outcomes.len() as u64);
    line("jobs with a wrong outcome", 0, wrong(jobs, &findings.outcomes));
    for (queue, left) in findings.left {
        line(&format!("left in {queue}"), 0, u64::from(left));
    }
    println!("        repeated events, with the same id: {}", findings.repeats);
    let mut returns: Vec<f64> = returns.iter().map(Duration::as_secs_f64).collect();
    returns.sort_by(f64::total_cmp);
    if let Some(median) = returns.get(returns.len() / 2) {
        let all: Vec<String> = returns.iter().map(|seconds| format!("{seconds:.2}")).collect();
        println!("        from the broker's restart to the first outcome: median {median:.2} s ({})", all.join(", "));
    }
    is_kept
}

fn wrong(jobs: &Jobs, outcomes: &Outcomes) -> u64 {
    let mut shared: BTreeMap<u32, u64> = BTreeMap::new();
    let (mut wrong, mut both) = (0, 0);
    for (id, kind) in jobs.kinds() {
        let types: BTreeSet<&str> = outcomes.get(id).into_iter().flatten().map(String::as_str).collect();
        let is_right = match kind {
            JobKind::Unique => types == BTreeSet::from(["user.created"]),
            JobKind::Invalid => types == BTreeSet::from(["user.rejected"]),
            JobKind::Repeated(person) | JobKind::SameEmail(person) => {
                *shared.entry(person).or_default() += u64::from(types.contains("user.created"));
                // A redelivered job can't distinguish its own user from that of the same request under another id, but
                // by the name it recognises a different person.
                let is_one = types.len() == 1;
                both += u64::from(!is_one);
                let is_known = types.iter().all(|name| ["user.created", "user.existing"].contains(name));
                is_known && (is_one || matches!(kind, JobKind::Repeated(_)))
            }
        };
        if !is_right {
            println!("        {id}: {types:?}");
        }
        wrong += u64::from(!is_right);
    }
    println!("        repeated jobs with both created and existing (allowed): {both}");
    // An email for which no job was created must not exist.
    wrong + shared.values().filter(|created| **created == 0).count() as u64
}
