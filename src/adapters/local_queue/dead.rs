//! Dead letters of the embedded queue: counts, shows, retries and drops them, also while a worker runs.
//!
//! A failed job keeps its message. A retried one waits again, and its event is deleted from the queue. It is retried
//! only after the event is in the events file, where the job's next event follows.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};

use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::{DEAD, DONE, LAST_FINISHED, WAITING, lane_code};
use crate::domain::dead_letter::{DeadLetterAction, WalkResult};
use crate::domain::decide::History;
use crate::domain::{DeadLetter, Event, IdempotencyKey, Lane, Timestamp};

/// Most dead letters in memory, and in a transaction.
const PAGE_MAX: usize = 500;

/// A dead letter and its row in `jobs`.
struct DeadJob {
    seq: i64,
    finished: i64,
    letter: DeadLetter,
}

/// Counts the dead letters.
///
/// # Errors
/// [`LocalQueueError`] if the file can't be read.
pub(crate) fn count(connection: &Connection, path: &Path) -> Result<u64, LocalQueueError> {
    connection
        .query_row("SELECT count(*) FROM jobs WHERE finished > 0 AND outcome = 3 AND state = ?1", [DEAD], |row| {
            row.get(0)
        })
        .map_err(|error| LocalQueueError::from_sqlite(path, &error))
}

/// Passes every dead letter of this moment to `choose`, oldest first, and carries out the action that it returns.
///
/// # Errors
/// [`LocalQueueError`] if the file can't be read or written. Actions that were carried out before are kept.
pub(crate) fn walk(
    connection: &mut Connection,
    path: &Path,
    now: Timestamp,
    choose: &mut (dyn FnMut(&DeadLetter) -> DeadLetterAction + Send),
) -> Result<WalkResult, LocalQueueError> {
    let mut walk = || -> rusqlite::Result<WalkResult> {
        // A job that is retried and fails again meanwhile gets a higher number.
        let last: i64 = connection.query_row(LAST_FINISHED, [], |row| row.get(0))?;
        let (mut result, mut after, mut is_over) = (WalkResult::default(), 0, false);
        while !is_over {
            let page = page(connection, after, last)?;
            after = page.last().map_or(last, |job| job.finished);
            is_over = page.len() < PAGE_MAX;
            let mut actions = Vec::new();
            for job in page {
                result.seen += 1;
                match choose(&job.letter) {
                    DeadLetterAction::Keep => {}
                    DeadLetterAction::Stop => {
                        is_over = true;
                        break;
                    }
                    action => actions.push((job.seq, action)),
                }
            }
            carry_out(connection, &actions, now, &mut result)?;
        }
        Ok(result)
    };
    walk().map_err(|error| LocalQueueError::from_sqlite(path, &error))
}

fn carry_out(
    connection: &mut Connection,
    actions: &[(i64, DeadLetterAction)],
    now: Timestamp,
    result: &mut WalkResult,
) -> rusqlite::Result<()> {
    if actions.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (seq, action) in actions {
        let changed = match action {
            // With a due time: a running worker reads fresh jobs in the order of `seq` and is past this one.
            DeadLetterAction::Retry => transaction
                .prepare_cached(
                    "UPDATE jobs SET state = ?2, due_ms = ?3, attempts = 0,
                     finished = NULL, outcome = NULL, event = NULL
                     WHERE seq = ?1 AND state = ?4 AND finished <= (SELECT coalesce(max(finished), 0) FROM exports)",
                )?
                .execute(params![seq, WAITING, now.unix_ms().max(1), DEAD])?,
            // The outcome is kept, so that every row is accounted for.
            _ => transaction
                .prepare_cached("UPDATE jobs SET state = ?2, body = NULL WHERE seq = ?1 AND state = ?3")?
                .execute(params![seq, DONE, DEAD])?,
        };
        result.done += u64::from(changed > 0);
        result.not_ready += u64::from(changed == 0);
    }
    transaction.commit()
}

fn page(connection: &Connection, after: i64, last: i64) -> rusqlite::Result<Vec<DeadJob>> {
    connection
        .prepare_cached(
            "SELECT seq, finished, key, lane, attempts, enqueued_ms, first_sent_ms, last_sent_ms, body, event FROM jobs
             WHERE finished > ?1 AND finished <= ?2 AND outcome = 3 AND state = ?3 ORDER BY finished LIMIT ?4",
        )?
        .query_map(params![after, last, DEAD, i64::try_from(PAGE_MAX).unwrap_or(i64::MAX)], dead_job)?
        .collect()
}

fn dead_job(row: &rusqlite::Row<'_>) -> rusqlite::Result<DeadJob> {
    let time = |ms: Option<i64>| ms.map(Timestamp::from_unix_ms);
    let lane: i64 = row.get(3)?;
    let event: Option<String> = row.get(9)?;
    let event: Option<Event> = event.and_then(|json| serde_json::from_str(&json).ok());
    let (dead_at, problems) = event.map_or((None, Vec::new()), |event| (Some(event.time), event.errors));
    let letter = DeadLetter {
        id: IdempotencyKey::from_bytes(row.get(2)?).to_string(),
        reason: problems.first().map_or_else(|| "UNKNOWN".to_owned(), |problem| problem.code.clone()),
        dead_at,
        lane: Lane::ALL.into_iter().find(|known| lane_code(*known) == lane),
        history: History {
            attempts: row.get(4)?,
            enqueued_at: Timestamp::from_unix_ms(row.get(5)?),
            first_sent_at: time(row.get(6)?),
            last_sent_at: time(row.get(7)?),
        },
        message_id: None,
        problems,
        body: row.get::<_, Option<String>>(8)?.unwrap_or_default().into_bytes(),
    };
    Ok(DeadJob { seq: row.get(0)?, finished: row.get(1)?, letter })
}
