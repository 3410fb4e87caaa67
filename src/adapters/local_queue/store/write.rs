//! The statements of commands.

use rusqlite::{Connection, params};

use crate::adapters::local_queue::storage::UnwrittenOutcome;
use crate::adapters::local_queue::store::command::StoreCommand;
use crate::adapters::local_queue::{DEAD, DONE, WAITING, outcome_code};
use crate::domain::{EventType, Timestamp};

/// Writes a command within the current transaction. `finished` is the number of the job if it finishes one.
pub(super) fn write(connection: &Connection, command: &StoreCommand, finished: i64) -> rusqlite::Result<()> {
    match command {
        StoreCommand::Claim { .. } => {}
        StoreCommand::RecordIntent { seq, now, .. } => {
            connection
                .prepare_cached(
                    "UPDATE jobs SET first_sent_ms = coalesce(first_sent_ms, ?2), last_sent_ms = ?2 WHERE seq = ?1",
                )?
                .execute(params![seq, now.unix_ms()])?;
        }
        StoreCommand::RetractIntent { seq, .. } => {
            connection
                .prepare_cached("UPDATE jobs SET first_sent_ms = NULL, last_sent_ms = NULL WHERE seq = ?1")?
                .execute([seq])?;
        }
        StoreCommand::Finish { outcome, .. } => {
            write_outcome(connection, outcome, finished)?;
        }
        StoreCommand::Requeue { seq, history, due, .. } => {
            connection
                .prepare_cached(
                    "UPDATE jobs SET due_ms = ?2, attempts = ?3, first_sent_ms = ?4, last_sent_ms = ?5 WHERE seq = ?1",
                )?
                .execute(params![
                    seq,
                    due.unix_ms().max(1),
                    history.attempts,
                    history.first_sent_at.map(Timestamp::unix_ms),
                    history.last_sent_at.map(Timestamp::unix_ms),
                ])?;
        }
    }
    Ok(())
}

/// Finishes a job within the current transaction, as the `finished`-th one. Returns whether it was waiting.
pub(in crate::adapters::local_queue) fn write_outcome(
    connection: &Connection,
    outcome: &UnwrittenOutcome,
    finished: i64,
) -> rusqlite::Result<bool> {
    // A failed job keeps its message, because an operator may retry it.
    let is_dead = outcome.event_type == EventType::Failed;
    let changed = connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, body = iif(?3, body, NULL), attempts = ?4, finished = ?5, outcome = ?6,
             event = ?7 WHERE seq = ?1 AND state = ?8",
        )?
        .execute(params![
            outcome.seq,
            if is_dead { DEAD } else { DONE },
            is_dead,
            outcome.attempts,
            finished,
            outcome_code(outcome.event_type),
            outcome.event_json,
            WAITING,
        ])?;
    Ok(changed > 0)
}
