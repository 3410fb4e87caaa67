//! The embedded queue (`local:PATH`): one SQLite file with the jobs, their outcomes and the rows they came from.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`open`], `schema`, `error` | open or create the file, check that it is a queue |
//! | [`import`] | adds the rows of a file; any number of processes at once |
//! | `lock` | one worker at a time |
//! | [`store`] | the worker's connection, on a thread that commits in groups |
//! | [`storage`], [`watch`], [`emergency`] | outcomes that aren't committed yet: why, and their copy in another place |
//! | [`source`] | the ports [`crate::ports`] on top of the store |
//! | [`export`] | appends the events of finished jobs to a file |
//! | [`report`], `depth` | outcomes of jobs and rows; counts for the status page |
//! | `dead`, `purge` | dead letters; deletion of personal data |
//!
//! **Invariants**
//! - The outcome of a job and its removal from the queue are one transaction, on the job's row.
//! - The intent to send is committed (WAL, `synchronous = FULL`) before the request is sent.
//! - Keys are unique over waiting and finished jobs, so a finished job isn't processed again.
//! - Which jobs are in progress is not stored, so after a crash they are waiting again.
//! - An outcome that can't be committed waits in memory and is committed when that works again. No user is created
//!   meanwhile.

pub(crate) mod dead;
pub(crate) mod depth;
pub mod emergency;
pub mod error;
pub mod export;
pub mod import;
pub(crate) mod lock;
pub mod open;
pub(crate) mod purge;
pub mod report;
mod schema;
pub mod source;
pub mod storage;
pub mod store;
pub mod watch;

use crate::domain::{EventType, Lane};

/// `jobs.state` of a job that waits or is in progress.
const WAITING: i64 = 0;
/// `jobs.state` of a finished job; `outcome` says how it ended.
const DONE: i64 = 1;
/// `jobs.state` of a dead letter: finished, and kept with its message for an operator.
const DEAD: i64 = 2;

const _: () = assert!(WAITING == 0, "the partial indexes of schema.sql say state = 0");

/// Selects the last number that a finished job got. A dead letter that is retried has no number any more, but its old
/// one must not be used again, because the events file is past it. Hence the second part.
const LAST_FINISHED: &str =
    "SELECT max((SELECT coalesce(max(finished), 0) FROM jobs), (SELECT coalesce(max(finished), 0) FROM exports))";

const fn lane_code(lane: Lane) -> i64 {
    match lane {
        Lane::Signup => 0,
        Lane::Bulk => 1,
    }
}

const fn outcome_code(event_type: EventType) -> i64 {
    match event_type {
        EventType::Created => 0,
        EventType::Existing => 1,
        EventType::Rejected => 2,
        EventType::Failed => 3,
    }
}

fn outcome_of(code: i64) -> Option<EventType> {
    EventType::ALL.into_iter().find(|event_type| outcome_code(*event_type) == code)
}

#[cfg(test)]
mod tests;
