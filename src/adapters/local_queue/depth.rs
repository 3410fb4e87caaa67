//! Depth of the queue, for the status page and the metrics. It is read on a connection of its own, so the worker
//! doesn't wait for it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::{DEAD, lane_code};
use crate::domain::{Lane, Timestamp};
use crate::telemetry::{QueueDepth, RowCounts};

/// Counts jobs and rows.
#[derive(Debug)]
pub(crate) struct DepthReader {
    connection: Connection,
    path: PathBuf,
}

impl DepthReader {
    /// Uses an open connection to the queue at `path`.
    pub(crate) fn new(connection: Connection, path: &Path) -> Self {
        Self { connection, path: path.to_owned() }
    }

    /// Counts waiting jobs and dead letters, from indexes only: a million jobs take tens of milliseconds.
    ///
    /// # Errors
    /// [`LocalQueueError`] if the file can't be read.
    pub(crate) fn jobs(&self, now: Timestamp) -> Result<QueueDepth, LocalQueueError> {
        let read = || -> rusqlite::Result<QueueDepth> {
            let mut depth = QueueDepth { includes_in_flight: true, ..QueueDepth::default() };
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
            // Every dead letter has one of these outcomes, and the index contains the outcome.
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

    /// Counts rows in one snapshot: all, finished and waiting. Counts jobs if the queue has no rows, because imports
    /// for a worker record none. A million rows take about a second.
    ///
    /// # Errors
    /// [`LocalQueueError`] if the file can't be read.
    pub(crate) fn rows(&mut self) -> Result<RowCounts, LocalQueueError> {
        const ROWS: &str = "SELECT (SELECT count(*) FROM rows), coalesce(sum(finished IS NOT NULL), 0),
            coalesce(sum(finished IS NULL AND state = 0), 0) FROM rows JOIN jobs USING (seq)";
        // Each count is from another index, so that a job in none of them makes a difference.
        const JOBS: &str = "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM jobs WHERE finished IS NOT NULL),
            (SELECT count(*) FROM jobs WHERE state = 0 AND due_ms = 0)
            + (SELECT count(*) FROM jobs WHERE state = 0 AND due_ms > 0)";
        let read = |connection: &mut Connection| -> rusqlite::Result<RowCounts> {
            let snapshot = connection.transaction()?;
            let has_rows: bool = snapshot.query_row("SELECT EXISTS (SELECT 1 FROM rows)", [], |row| row.get(0))?;
            snapshot.query_row(if has_rows { ROWS } else { JOBS }, [], |row| {
                Ok(RowCounts { total: row.get(0)?, finished: row.get(1)?, waiting: row.get(2)? })
            })
        };
        read(&mut self.connection).map_err(|error| LocalQueueError::from_sqlite(&self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open};

    const NOW: Timestamp = Timestamp::from_unix_ms(1_000);

    /// Lane, state, due, finished, outcome.
    type JobColumns = (i64, i64, i64, Option<i64>, Option<i64>);

    /// A queue with these jobs.
    fn queue(folder: &Path, jobs: &[JobColumns]) -> DepthReader {
        let path = folder.join("q.db");
        let connection = open(&path, IfMissing::Create, OpenPurpose::Work, 64).unwrap();
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
    fn counts_ready_and_delayed_jobs_and_dead_letters() {
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
        // There are no rows, so jobs are counted.
        assert_eq!(reader.rows().unwrap(), RowCounts { total: 7, finished: 3, waiting: 4 });
    }

    #[test]
    fn a_row_without_a_job_makes_a_difference() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = queue(folder.path(), &[(1, 0, 0, None, None), (1, 1, 0, Some(1), Some(0))]);
        let rows = "INSERT INTO rows VALUES (1, 1, 2, 1, 0), (1, 2, 3, 2, 0), (1, 3, 4, 2, 1)";
        reader.connection.execute(rows, []).unwrap();
        let rows = reader.rows().unwrap();
        assert_eq!((rows, rows.difference()), (RowCounts { total: 3, finished: 2, waiting: 1 }, 0));
        reader.connection.execute("DELETE FROM jobs WHERE seq = 1", []).unwrap();
        assert_eq!(reader.rows().unwrap().difference(), 1);
    }
}
