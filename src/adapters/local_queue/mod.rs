//! The embedded queue (`local:PATH`): one SQLite file that holds the jobs, their outcomes and the rows they
//! came from.
//!
//! Any number of processes may put jobs in ([`import`]); one may work ([`lock`]). The worker's side is a thread
//! that owns its connection and commits in groups ([`store`]); [`source`] puts the ports on top of it, and
//! [`report`] reads what became of the rows; [`dead`] looks after failed jobs.
//!
//! **Invariants**
//! - A job's outcome and its leaving the queue are one transaction: the job's row turns from waiting to done.
//! - The intent to send is committed (WAL, `synchronous = FULL`) before the request leaves.
//! - Keys are unique over waiting and finished jobs, so a finished job isn't done again.
//! - What is in hand is not written down: a crash puts everything in hand back by itself.

pub mod dead;
pub mod depth;
pub mod export;
pub mod import;
pub mod lock;
pub mod open;
pub mod purge;
pub mod report;
pub mod source;
pub mod store;

use crate::domain::{EventType, Lane};

/// `jobs.state`: waiting to be done, or in hand.
const WAITING: i64 = 0;
/// `jobs.state`: over; `event` tells how.
const DONE: i64 = 1;
/// `jobs.state`: over, and kept with its message for a person to look at.
const DEAD: i64 = 2;

/// The last number that a finished job was given. Not only the jobs' own: one that was taken back from the dead has none
/// any more, and its old one must not be given again, because the events file is past it.
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
