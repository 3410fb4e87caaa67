//! Looking after the failed jobs of the embedded queue, while a worker works on it or not.
//!
//! A failed job keeps its message. Taken back, it waits again and its event is gone from the queue; so it is taken back
//! only once the event stands in the events file, and the job's next event follows it there.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};

use crate::adapters::local_queue::open::LocalQueueError;
use crate::adapters::local_queue::{DEAD, DONE, LAST_FINISHED, WAITING, lane_code};
use crate::domain::dead_letter::{Verdict, Walked};
use crate::domain::decide::History;
use crate::domain::{DeadLetter, Event, IdempotencyKey, Lane, Timestamp};

/// Letters in memory, and in a transaction, at once.
const LETTERS_PER_PAGE: usize = 500;

/// A letter and where it lies.
struct Place {
    seq: i64,
    finished: i64,
    letter: DeadLetter,
}

/// How many there are.
///
/// # Errors
/// [`LocalQueueError`] where the file can't be read.
pub fn count(connection: &Connection, path: &Path) -> Result<u64, LocalQueueError> {
    connection
        .query_row("SELECT count(*) FROM jobs WHERE finished > 0 AND outcome = 3 AND state = ?1", [DEAD], |row| {
            row.get(0)
        })
        .map_err(|error| LocalQueueError::from_sqlite(path, &error))
}

/// Shows every dead letter that is there now to `judge`, in the order of their failing, and does as it says.
///
/// # Errors
/// [`LocalQueueError`] where the file can't be read or written; what was done stays done.
pub fn walk(
    connection: &mut Connection,
    path: &Path,
    now: Timestamp,
    judge: &mut (dyn FnMut(&DeadLetter) -> Verdict + Send),
) -> Result<Walked, LocalQueueError> {
    let mut walk = || -> rusqlite::Result<Walked> {
        // A job that is taken back and fails again is not met again.
        let last: i64 = connection.query_row(LAST_FINISHED, [], |row| row.get(0))?;
        let (mut walked, mut after, mut is_over) = (Walked::default(), 0, false);
        while !is_over {
            let page = page(connection, after, last)?;
            after = page.last().map_or(last, |place| place.finished);
            is_over = page.len() < LETTERS_PER_PAGE;
            let mut verdicts = Vec::new();
            for place in page {
                walked.seen += 1;
                match judge(&place.letter) {
                    Verdict::Keep => {}
                    Verdict::Enough => {
                        is_over = true;
                        break;
                    }
                    verdict => verdicts.push((place.seq, verdict)),
                }
            }
            carry_out(connection, &verdicts, now, &mut walked)?;
        }
        Ok(walked)
    };
    walk().map_err(|error| LocalQueueError::from_sqlite(path, &error))
}

fn carry_out(
    connection: &mut Connection,
    verdicts: &[(i64, Verdict)],
    now: Timestamp,
    walked: &mut Walked,
) -> rusqlite::Result<()> {
    if verdicts.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (seq, verdict) in verdicts {
        let changed = match verdict {
            // Due now rather than fresh: a worker that is running is past the fresh jobs of this age.
            Verdict::Retry => transaction
                .prepare_cached(
                    "UPDATE jobs SET state = ?2, due_ms = ?3, attempts = 0, finished = NULL, outcome = NULL, event = NULL
                     WHERE seq = ?1 AND state = ?4 AND finished <= (SELECT coalesce(max(finished), 0) FROM exports)",
                )?
                .execute(params![seq, WAITING, now.unix_ms().max(1), DEAD])?,
            // Its outcome stays, so that the rows can still be accounted for.
            _ => transaction
                .prepare_cached("UPDATE jobs SET state = ?2, body = NULL WHERE seq = ?1 AND state = ?3")?
                .execute(params![seq, DONE, DEAD])?,
        };
        walked.done += u64::from(changed > 0);
        walked.not_ready += u64::from(changed == 0);
    }
    transaction.commit()
}

fn page(connection: &Connection, after: i64, last: i64) -> rusqlite::Result<Vec<Place>> {
    connection
        .prepare_cached(
            "SELECT seq, finished, key, lane, attempts, enqueued_ms, first_sent_ms, last_sent_ms, body, event FROM jobs
             WHERE finished > ?1 AND finished <= ?2 AND outcome = 3 AND state = ?3 ORDER BY finished LIMIT ?4",
        )?
        .query_map(params![after, last, DEAD, i64::try_from(LETTERS_PER_PAGE).unwrap_or(i64::MAX)], place)?
        .collect()
}

fn place(row: &rusqlite::Row<'_>) -> rusqlite::Result<Place> {
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
    Ok(Place { seq: row.get(0)?, finished: row.get(1)?, letter })
}
