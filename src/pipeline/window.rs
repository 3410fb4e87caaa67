//! Window of a worker: how many jobs it holds, and from which lane the next one is taken. Pure: time is passed in.
//!
//! - At most `capacity` jobs are in progress. The last quarter is kept for signups.
//! - Jobs that wait for an earlier job about the same person aren't in progress: any number of them leaves room for
//!   other jobs. At most [`waiting_max`] of them wait; further ones are requeued.
//! - While bulk is held, the window's number of bulk jobs is taken and requeued once in [`BULK_TURNOVER`].

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{Lane, Timestamp};
use crate::pipeline::rate::lanes::LanePicker;
use crate::pipeline::rate::rate_limiter::BulkHold;

/// How often to check whether bulk is still held.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// A shorter hold isn't logged: requests in flight may fill the daily quota and create no user.
const LOGGED_HOLD_MIN: Duration = Duration::from_secs(10);

/// While bulk is held, as many jobs as fit into the window are taken and requeued in this time. RabbitMQ takes jobs
/// away that it handed out ahead and that stay unacknowledged for 30 minutes.
const BULK_TURNOVER: Duration = Duration::from_secs(1_200);

/// Jobs that may wait for an earlier job about the same person beside a small window. Fewer would have to be requeued
/// after a few clicks on one button.
const WAITING_MIN: usize = 64;

/// Jobs that may wait beside a large window. Bounds memory: a job message has up to 64 KiB.
const WAITING_MAX: usize = 1_024;

/// Returns how many jobs may wait for an earlier job about the same person: as many as the window holds.
pub(super) fn waiting_max(capacity: usize) -> usize {
    capacity.clamp(WAITING_MIN, WAITING_MAX)
}

/// Where a job that the worker holds is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobPlace {
    /// It takes up the window.
    InProgress,
    /// It waits for an earlier job about the same person.
    Waiting,
}

/// The jobs that a worker holds, and the lane that is next.
#[derive(Debug)]
pub(super) struct JobWindow {
    capacity: usize,
    picker: LanePicker,
    in_progress: usize,
    bulk_in_progress: usize,
    waiting: usize,
    bulk_hold: Option<BulkHold>,
    is_hold_logged: bool,
    /// While bulk is held: when the next bulk job is taken.
    next_bulk_at: Instant,
}

/// A change of the hold that is to be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HoldChange {
    Unchanged,
    Held(BulkHold),
    Released,
}

impl JobWindow {
    pub(super) const fn new(capacity: usize, bulk_share_percent: u32, now: Instant) -> Self {
        Self {
            capacity,
            picker: LanePicker::new(bulk_share_percent),
            in_progress: 0,
            bulk_in_progress: 0,
            waiting: 0,
            bulk_hold: None,
            is_hold_logged: false,
            next_bulk_at: now,
        }
    }

    /// Changes bulk's share.
    pub(super) const fn set_bulk_share(&mut self, percent: u32) {
        self.picker.set_bulk_share(percent);
    }

    /// Returns the lane that goes first if both have a job.
    pub(super) const fn first_lane(&self) -> Lane {
        self.picker.first()
    }

    /// Returns whether the worker holds no job.
    pub(super) const fn is_empty(&self) -> bool {
        self.in_progress + self.waiting == 0
    }

    /// Returns whether a job of this lane may be taken now.
    pub(super) fn has_room(&self, lane: Lane, now: Instant) -> bool {
        let has_room = self.in_progress < self.capacity;
        match lane {
            Lane::Signup => has_room,
            Lane::Bulk => {
                let bulk_max = (self.capacity - self.capacity / 4).max(1);
                let is_due = self.bulk_hold.is_none() || self.next_bulk_at <= now;
                has_room && self.bulk_in_progress < bulk_max && is_due
            }
        }
    }

    /// Returns when to check again; `None`: bulk isn't held.
    pub(super) fn check_at(&self, now: Instant) -> Option<Instant> {
        self.bulk_hold.as_ref()?;
        let check_at = now + CHECK_EVERY;
        Some(if self.next_bulk_at > now { check_at.min(self.next_bulk_at) } else { check_at })
    }

    /// Adds a job that was taken.
    pub(super) fn add(&mut self, lane: Lane, now: Instant) {
        self.picker.took(lane);
        self.enter(lane);
        if lane == Lane::Bulk {
            let jobs = u32::try_from(self.capacity).unwrap_or(u32::MAX).max(1);
            self.next_bulk_at = now + BULK_TURNOVER / jobs;
        }
    }

    /// Removes a job that was finished or requeued.
    pub(super) fn remove(&mut self, lane: Lane, place: JobPlace) {
        match place {
            JobPlace::InProgress => self.leave(lane),
            JobPlace::Waiting => self.waiting -= 1,
        }
    }

    /// A job in progress has to wait for an earlier job about the same person. Returns `false` if too many jobs wait.
    pub(super) fn start_waiting(&mut self, lane: Lane) -> bool {
        let has_room = self.waiting < waiting_max(self.capacity);
        if has_room {
            self.waiting += 1;
            self.leave(lane);
        }
        has_room
    }

    /// A job that waited is in progress again. It takes the room of the job that it waited for, perhaps a moment before
    /// that one leaves it.
    pub(super) fn resume(&mut self, lane: Lane) {
        self.waiting -= 1;
        self.enter(lane);
    }

    fn enter(&mut self, lane: Lane) {
        self.in_progress += 1;
        self.bulk_in_progress += usize::from(lane == Lane::Bulk);
    }

    fn leave(&mut self, lane: Lane) {
        self.in_progress -= 1;
        self.bulk_in_progress -= usize::from(lane == Lane::Bulk);
    }

    /// Sets whether bulk is held. Returns what to log.
    pub(super) fn set_bulk_hold(&mut self, hold: Option<BulkHold>, time: Timestamp, now: Instant) -> HoldChange {
        let is_logged =
            hold.as_ref().is_some_and(|hold| self.is_hold_logged || hold.until().since(time) > LOGGED_HOLD_MIN);
        let change = match &hold {
            _ if is_logged == self.is_hold_logged => HoldChange::Unchanged,
            Some(hold) if is_logged => HoldChange::Held(hold.clone()),
            _ => HoldChange::Released,
        };
        if hold.is_some() && self.bulk_hold.is_none() {
            self.next_bulk_at = now + CHECK_EVERY;
        }
        self.is_hold_logged = is_logged;
        self.bulk_hold = hold;
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

    fn hold(seconds: u64) -> Option<BulkHold> {
        Some(BulkHold::DailyQuota { until: T0.plus(Duration::from_secs(seconds)) })
    }

    #[tokio::test]
    async fn the_last_quarter_is_kept_for_signups() {
        let now = Instant::now();
        for (capacity, bulk_max) in [(1, 1), (2, 2), (4, 3), (16, 12)] {
            let mut window = JobWindow::new(capacity, 10, now);
            while window.has_room(Lane::Bulk, now) {
                window.add(Lane::Bulk, now);
            }
            assert_eq!(window.bulk_in_progress, bulk_max);
            while window.has_room(Lane::Signup, now) {
                window.add(Lane::Signup, now);
            }
            assert_eq!(window.in_progress, capacity);
            window.remove(Lane::Bulk, JobPlace::InProgress);
            assert!(window.has_room(Lane::Bulk, now));
        }
    }

    #[tokio::test]
    async fn jobs_that_wait_for_their_person_leave_room_for_others() {
        let now = Instant::now();
        let mut window = JobWindow::new(4, 10, now);
        for _ in 0..waiting_max(4) {
            window.add(Lane::Bulk, now);
            assert!(window.start_waiting(Lane::Bulk));
        }
        (0..3).for_each(|_| window.add(Lane::Bulk, now));
        assert!(!window.has_room(Lane::Bulk, now) && window.has_room(Lane::Signup, now));
        assert!(!window.start_waiting(Lane::Bulk), "too many wait");
        window.remove(Lane::Bulk, JobPlace::InProgress);
        window.resume(Lane::Bulk);
        assert!(window.start_waiting(Lane::Bulk));
        (0..waiting_max(4)).for_each(|_| window.remove(Lane::Bulk, JobPlace::Waiting));
        (0..2).for_each(|_| window.remove(Lane::Bulk, JobPlace::InProgress));
        assert!(window.is_empty());
        assert_eq!((waiting_max(4), waiting_max(256), waiting_max(65_536)), (WAITING_MIN, 256, WAITING_MAX));
    }

    #[tokio::test]
    async fn few_bulk_jobs_are_taken_while_bulk_is_held() {
        let now = Instant::now();
        let mut window = JobWindow::new(16, 10, now);
        assert_eq!(window.check_at(now), None);
        window.set_bulk_hold(hold(3_600), T0, now);
        assert!(!window.has_room(Lane::Bulk, now));
        assert_eq!(window.check_at(now), Some(now + CHECK_EVERY));
        let due = now + CHECK_EVERY;
        assert!(window.has_room(Lane::Bulk, due));
        window.add(Lane::Bulk, due);
        assert!(!window.has_room(Lane::Bulk, due + BULK_TURNOVER / 17));
        assert!(window.has_room(Lane::Bulk, due + BULK_TURNOVER / 16));
        assert!(window.has_room(Lane::Signup, due));
    }

    #[tokio::test]
    async fn a_hold_is_logged_once_unless_it_is_short() {
        let now = Instant::now();
        let mut window = JobWindow::new(16, 10, now);
        let mut set = |hold| window.set_bulk_hold(hold, T0, now);
        assert_eq!(set(hold(10)), HoldChange::Unchanged);
        assert_eq!(set(None), HoldChange::Unchanged);
        assert_eq!(set(hold(11)), HoldChange::Held(hold(11).unwrap()));
        assert_eq!(set(hold(5)), HoldChange::Unchanged);
        assert_eq!(set(None), HoldChange::Released);
    }
}
