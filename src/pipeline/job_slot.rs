//! Slots of the window: each job that the worker holds has one, from its delivery to its end.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::Lane;
use crate::pipeline::window::{JobPlace, JobWindow};

/// The window, shared by the worker and the slots of its jobs. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct SharedWindow(Arc<SharedWindowInner>);

#[derive(Debug)]
struct SharedWindowInner {
    window: Mutex<JobWindow>,
    /// Notified when a job begins to wait.
    has_room: Notify,
}

/// A job's place in the window. Dropping it makes room for another job.
#[derive(Debug)]
pub(super) struct JobSlot {
    window: SharedWindow,
    lane: Lane,
    place: JobPlace,
}

impl SharedWindow {
    pub(super) fn new(window: JobWindow) -> Self {
        Self(Arc::new(SharedWindowInner { window: Mutex::new(window), has_room: Notify::new() }))
    }

    /// Reads or changes the window.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut JobWindow) -> T) -> T {
        change(&mut self.0.window.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a job that waits for its person leaves room for another. Cancel-safe. For one caller at a time.
    pub(super) async fn has_room(&self) {
        self.0.has_room.notified().await;
    }

    /// Adds a job that was taken from this lane.
    pub(super) fn add(&self, lane: Lane) -> JobSlot {
        self.with(|window| window.add(lane, Instant::now()));
        JobSlot { window: self.clone(), lane, place: JobPlace::InProgress }
    }
}

impl JobSlot {
    /// The job has to wait for an earlier job about the same person. Returns `false` if too many jobs wait.
    #[must_use]
    pub(super) fn start_waiting(&mut self) -> bool {
        let may_wait = self.window.with(|window| window.start_waiting(self.lane));
        if may_wait {
            self.place = JobPlace::Waiting;
            self.window.0.has_room.notify_one();
        }
        may_wait
    }

    /// The job is in progress again, if it waited.
    pub(super) fn resume(&mut self) {
        if self.place == JobPlace::Waiting {
            self.window.with(|window| window.resume(self.lane));
            self.place = JobPlace::InProgress;
        }
    }
}

impl Drop for JobSlot {
    fn drop(&mut self) {
        self.window.with(|window| window.remove(self.lane, self.place));
    }
}
