//! How much lies on the queue, read from its file on a connection of its own: the worker's never waits for it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use crate::adapters::local_queue::open::LocalQueueError;
use crate::adapters::local_queue::{DEAD, lane_code};
use crate::domain::{Lane, Timestamp};
use crate::telemetry::{Depth, Rows};

/// Reads on a connection of its own.
#[derive(Debug)]
pub struct DepthReader {
    connection: Connection,
    path: PathBuf,
}

impl DepthReader {
    /// On an open connection.
    pub fn new(connection: Connection, path: &Path) -> Self {
        Self { connection, path: path.to_owned() }
    }

    /// Jobs that wait and dead letters, each from an index: a million jobs take tens of milliseconds.
    ///
    /// # Errors
    /// [`LocalQueueError`] where the file can't be read.
    pub fn jobs(&self, now: Timestamp) -> Result<Depth, LocalQueueError> {
        let read = || -> rusqlite::Result<Depth> {
            let mut depth = Depth { includes_in_hand: true, ..Depth::default() };
            for lane in Lane::ALL {
                let mut lanes = self.connection.prepare_cached(
                    "SELECT (SELECT count(*) FROM jobs WHERE lane = ?1 AND state = 0 AND due_ms = 0),
                     (SELECT count(*) FROM jobs WHERE lane = ?1 AND state = 0 AND due_ms > 0 AND due_ms <= ?2),
                     (SELECT count(*) FROM jobs WHERE lane = ?1 AND state = 0 AND due_ms > 0 AND due_ms > ?2)",
                )?;
                let (fresh, due, later): (u64, u64, u64) = lanes
                    .query_row(params![lane_code(lane), now.unix_ms()], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                    })?;
                depth.ready[lane as usize] = fresh + due;
                depth.delayed[lane as usize] = later;
            }
            // Every dead letter failed or was malformed; the index leads to those.
            depth.dead = self
                .connection
                .prepare_cached(
                    "SELECT count(*) FROM jobs WHERE finished IS NOT NULL AND outcome IN (2, 3) AND state = ?1",
                )?
                .query_row([DEAD], |row| row.get(0))?;
            Ok(depth)
        };
        read().map_err(|error| LocalQueueError::from_sqlite(&self.path, &error))
    }

    /// Rows and what became of them, at one moment; jobs, where the queue keeps no account of rows because other programs
    /// put them in. A million rows take about a second.
    ///
    /// # Errors
    /// [`LocalQueueError`] where the file can't be read.
    pub fn rows(&mut self) -> Result<Rows, LocalQueueError> {
        const ROWS: &str = "SELECT (SELECT count(*) FROM rows), coalesce(sum(finished IS NOT NULL), 0),
            coalesce(sum(finished IS NULL AND state = 0), 0) FROM rows JOIN jobs USING (seq)";
        // Each part from an index of its own, so that a job that is in none of them shows.
        const JOBS: &str = "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM jobs WHERE finished IS NOT NULL),
            (SELECT count(*) FROM jobs WHERE state = 0 AND due_ms = 0)
            + (SELECT count(*) FROM jobs WHERE state = 0 AND due_ms > 0)";
        let read = |connection: &mut Connection| -> rusqlite::Result<Rows> {
            let moment = connection.transaction()?;
            let has_rows: bool = moment.query_row("SELECT EXISTS (SELECT 1 FROM rows)", [], |row| row.get(0))?;
            moment.query_row(if has_rows { ROWS } else { JOBS }, [], |row| {
                Ok(Rows { total: row.get(0)?, finished: row.get(1)?, waiting: row.get(2)? })
            })
        };
        read(&mut self.connection).map_err(|error| LocalQueueError::from_sqlite(&self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::local_queue::open::{IfMissing, Purpose, open};

    const NOW: Timestamp = Timestamp::from_unix_ms(1_000);

    /// Lane, state, due, finished, outcome.
    type Row = (i64, i64, i64, Option<i64>, Option<i64>);

    /// A queue with these jobs.
    fn queue(folder: &Path, jobs: &[Row]) -> DepthReader {
        let path = folder.join("q.db");
        let connection = open(&path, IfMissing::Create, Purpose::Work, 64).unwrap();
        for (seq, (lane, state, due, finished, outcome)) in jobs.iter().enumerate() {
            let key = u128::try_from(seq).unwrap().to_be_bytes();
            let seq = i64::try_from(seq).unwrap() + 1;
            connection
                .execute(
                    "INSERT INTO jobs (seq, key, lane, state, due_ms, enqueued_ms, finished, outcome)
                     VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7)",
                    params![seq, key, lane, state, due, finished, outcome],
                )
                .unwrap();
        }
        DepthReader::new(connection, &path)
    }

    #[test]
    fn fresh_due_and_delayed_jobs_and_dead_letters_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let jobs = [
            (0, 0, 0, None, None),
            (1, 0, 0, None, None),
            (1, 0, 1_000, None, None),
            (1, 0, 1_001, None, None),
            (1, 1, 0, Some(1), Some(0)),
            (1, 1, 0, Some(2), Some(2)),
            (1, 2, 0, Some(3), Some(3)),
        ];
        let mut reader = queue(folder.path(), &jobs);
        let depth = reader.jobs(NOW).unwrap();
        assert_eq!((depth.ready, depth.delayed, depth.dead), ([1, 2], [0, 1], 1));
        // Nobody noted rows, so the jobs themselves are counted.
        assert_eq!(reader.rows().unwrap(), Rows { total: 7, finished: 3, waiting: 4 });
    }

    #[test]
    fn a_row_whose_job_is_gone_breaks_the_balance() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = queue(folder.path(), &[(1, 0, 0, None, None), (1, 1, 0, Some(1), Some(0))]);
        let rows = "INSERT INTO rows VALUES (1, 1, 2, 1, 0), (1, 2, 3, 2, 0), (1, 3, 4, 2, 1)";
        reader.connection.execute(rows, []).unwrap();
        let rows = reader.rows().unwrap();
        assert_eq!((rows, rows.difference()), (Rows { total: 3, finished: 2, waiting: 1 }, 0));
        reader.connection.execute("DELETE FROM jobs WHERE seq = 1", []).unwrap();
        assert_eq!(reader.rows().unwrap().difference(), 1);
    }
}
