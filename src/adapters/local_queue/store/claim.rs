//! Takes waiting jobs from the file. Which of them are in progress is kept in memory only.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use crate::adapters::local_queue::lane_code;
use crate::domain::decide::History;
use crate::domain::private::debug_redacted;
use crate::domain::{Lane, Timestamp};

/// A job that was taken from the file.
pub(in crate::adapters::local_queue) struct ClaimedJob {
    pub(in crate::adapters::local_queue) seq: i64,
    pub(in crate::adapters::local_queue) body: String,
    pub(in crate::adapters::local_queue) history: History,
}

debug_redacted!(ClaimedJob);

#[derive(Debug)]
pub(in crate::adapters::local_queue) enum ClaimResult {
    /// At least one job. The jobs are in progress now.
    Jobs(Vec<ClaimedJob>),
    /// None now, but jobs are in progress or not due yet.
    Later,
    /// No job waits or is in progress.
    Drained,
}

/// Jobs in progress.
#[derive(Default)]
pub(super) struct ClaimState {
    /// For each lane, the last fresh job that was taken. Fresh jobs are taken in order, so those in progress are before
    /// it.
    cursors: [i64; 2],
    /// Jobs in progress that aren't fresh. They are still due in the file and must not be taken again.
    in_progress: HashSet<i64>,
}

impl ClaimState {
    /// The job is not in progress any more.
    pub(super) fn release(&mut self, seq: i64) {
        self.in_progress.remove(&seq);
    }

    /// Takes up to `max` jobs: due ones first, then fresh ones in order. Takes none if they can't all be read.
    pub(super) fn claim(
        &mut self,
        connection: &Connection,
        lane: Lane,
        now: Timestamp,
        max: usize,
    ) -> rusqlite::Result<ClaimResult> {
        let mut jobs = Vec::new();
        let cursor = self.cursors[lane as usize];
        let due = self.take_due(connection, lane, now, max, &mut jobs);
        if let Err(error) = due.and_then(|()| self.take_fresh(connection, lane, max, &mut jobs)) {
            self.cursors[lane as usize] = cursor;
            for job in jobs {
                self.release(job.seq);
            }
            return Err(error);
        }
        if !jobs.is_empty() {
            return Ok(ClaimResult::Jobs(jobs));
        }
        let waiting = connection
            .prepare_cached(
                "SELECT 1 FROM jobs WHERE state = 0 AND lane = ?1 AND due_ms = 0
                 UNION ALL SELECT 1 FROM jobs WHERE state = 0 AND lane = ?1 AND due_ms > 0 LIMIT 1",
            )?
            .query_row([lane_code(lane)], |_| Ok(()))
            .optional()?;
        Ok(if waiting.is_some() { ClaimResult::Later } else { ClaimResult::Drained })
    }

    fn take_due(
        &mut self,
        connection: &Connection,
        lane: Lane,
        now: Timestamp,
        max: usize,
        jobs: &mut Vec<ClaimedJob>,
    ) -> rusqlite::Result<()> {
        let mut due = connection.prepare_cached(
            "SELECT seq, body, attempts, enqueued_ms, first_sent_ms, last_sent_ms FROM jobs
             WHERE state = 0 AND lane = ?1 AND due_ms > 0 AND due_ms <= ?2 ORDER BY due_ms LIMIT ?3",
        )?;
        // Jobs in progress may be among the results.
        let limit = i64::try_from(max + self.in_progress.len()).unwrap_or(i64::MAX);
        let mut rows = due.query(params![lane_code(lane), now.unix_ms(), limit])?;
        while let Some(row) = rows.next()? {
            let job = claimed_job(row)?;
            if jobs.len() < max && self.in_progress.insert(job.seq) {
                jobs.push(job);
            }
        }
        Ok(())
    }

    fn take_fresh(
        &mut self,
        connection: &Connection,
        lane: Lane,
        max: usize,
        jobs: &mut Vec<ClaimedJob>,
    ) -> rusqlite::Result<()> {
        if jobs.len() >= max {
            return Ok(());
        }
        let mut fresh = connection.prepare_cached(
            "SELECT seq, body, attempts, enqueued_ms, first_sent_ms, last_sent_ms FROM jobs
             WHERE state = 0 AND lane = ?1 AND due_ms = 0 AND seq > ?2 ORDER BY seq LIMIT ?3",
        )?;
        let cursor = &mut self.cursors[lane as usize];
        let limit = i64::try_from(max - jobs.len()).unwrap_or(i64::MAX);
        let mut rows = fresh.query(params![lane_code(lane), *cursor, limit])?;
        while let Some(row) = rows.next()? {
            let job = claimed_job(row)?;
            *cursor = job.seq;
            jobs.push(job);
        }
        Ok(())
    }
}

fn claimed_job(row: &rusqlite::Row<'_>) -> rusqlite::Result<ClaimedJob> {
    let time = |ms: Option<i64>| ms.map(Timestamp::from_unix_ms);
    Ok(ClaimedJob {
        seq: row.get(0)?,
        body: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
        history: History {
            attempts: row.get(2)?,
            enqueued_at: Timestamp::from_unix_ms(row.get(3)?),
            first_sent_at: time(row.get(4)?),
            last_sent_at: time(row.get(5)?),
        },
    })
}
