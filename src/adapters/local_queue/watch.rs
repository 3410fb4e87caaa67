//! Watches the threads that write outcomes: reports when outcomes can't be written, and copies them to the
//! [`EmergencyFile`].
//!
//! A commit that hangs reports nothing itself: the disk doesn't answer, or another process holds a lock. So the thread
//! is watched from outside.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::adapters::local_queue::emergency::{EmergencyFile, is_temporary};
use crate::adapters::local_queue::storage::{StorageState, UnwrittenOutcome};
use crate::telemetry::EmergencyFileWritten;

/// Time after which an access to the queue's file counts as hanging. A commit takes milliseconds, and the transaction
/// of an import that it may have to wait for less than a second.
const HANGS_AFTER: Duration = Duration::from_secs(2);

/// How often the threads are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// Time after which outcomes that can't be committed are copied.
const COPY_AFTER: Duration = Duration::from_secs(3);

/// Time after which a copy that failed is tried again.
const COPY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// At the end: longest wait for the last commit, and for the emergency file.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a copy failed.
const NO_THREAD: &str = "no thread can be started";

/// Outcomes that could not be committed before the process ended.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.describe())]
pub struct UnwrittenOutcomes {
    /// Why: the last failure of the queue's file.
    reason: String,
    /// Ids of users that were created.
    service_ids: Vec<String>,
    outcomes: usize,
    /// The emergency file, or why there is none.
    copy: Result<PathBuf, String>,
}

impl UnwrittenOutcomes {
    fn describe(&self) -> String {
        let Self { reason, service_ids, outcomes, copy } = self;
        let ids =
            if service_ids.is_empty() { String::new() } else { format!(" serviceIds: {}", service_ids.join(", ")) };
        match copy {
            Ok(path) => format!(
                "{outcomes} outcomes could not be written to the queue ({reason}). They are in {}, which only this \
                 user can read, and the next start on this queue reads them: no link is lost{}.{ids}",
                path.display(),
                // Says nothing about other folders, which are not cleaned up.
                if is_temporary(path) {
                    " as long as that folder for temporary files is kept (a container's isn't, nor one of systemd's \
                     PrivateTmp=)"
                } else {
                    ""
                }
            ),
            Err(why) => format!(
                "{outcomes} outcomes could not be written to the queue ({reason}), nor to another place ({why}). Their \
                 links are lost; the next start looks the users up.{ids}"
            ),
        }
    }
}

/// Watches until it is dropped. `on_change` is called when outcomes can't be written, with the reason, when the reason
/// changes, and with `None` when they can be written again.
pub async fn watch(storage: StorageState, emergency: EmergencyFile, mut on_change: impl FnMut(Option<&str>) + Send) {
    let mut failures = storage.failures();
    let mut ticks = interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut access = AccessWatch::default();
    let mut copy = OutcomeCopy::new(storage.clone(), emergency);
    let mut reported: Option<String> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // The state, which is kept here, holds the sender.
            _ = failures.changed() => {}
        }
        let hangs = access.hangs(storage.running_access());
        let reason = if hangs { Some(hang_reason()) } else { failures.borrow_and_update().reason().map(str::to_owned) };
        if reason != reported {
            on_change(reason.as_deref());
            reported = reason;
        }
        copy.update(hangs || failures.borrow().queue.is_some(), hangs);
    }
}

fn hang_reason() -> String {
    format!("the queue's disk hasn't answered for {} s, or another process has locked the queue", HANGS_AFTER.as_secs())
}

/// Closes the storage, after every store was dropped: waits for the last commit, and copies the outcomes that are left.
///
/// # Errors
/// [`UnwrittenOutcomes`] if outcomes are left.
pub async fn close(storage: &StorageState, emergency: &EmergencyFile) -> Result<(), UnwrittenOutcomes> {
    let has_ended = timeout(CLOSE_TIMEOUT, storage.ended()).await.is_ok();
    let outcomes = storage.unwritten();
    if outcomes.is_empty() {
        if has_ended {
            // A copy of outcomes that were committed in the end.
            emergency.delete();
        }
        return Ok(());
    }
    let reason = if has_ended { storage.failures().borrow().reason().map(str::to_owned) } else { None };
    let service_ids = outcomes.iter().filter_map(|outcome| outcome.service_id.clone()).collect();
    let count = outcomes.len();
    let copied = timeout(CLOSE_TIMEOUT, copy_in_thread(emergency.clone(), outcomes, !has_ended)).await;
    Err(UnwrittenOutcomes {
        reason: reason.unwrap_or_else(hang_reason),
        service_ids,
        outcomes: count,
        copy: copied.unwrap_or_else(|_| Err("that disk doesn't answer either".to_owned())),
    })
}

/// Notices an access that takes too long.
#[derive(Default)]
struct AccessWatch {
    running: Option<(u64, Instant)>,
}

impl AccessWatch {
    fn hangs(&mut self, running: Option<u64>) -> bool {
        match (running, self.running) {
            (Some(access), Some((seen, since))) if access == seen => since.elapsed() >= HANGS_AFTER,
            (Some(access), _) => {
                self.running = Some((access, Instant::now()));
                false
            }
            (None, _) => {
                self.running = None;
                false
            }
        }
    }
}

/// Keeps the emergency file up to date while outcomes can't be committed.
struct OutcomeCopy {
    storage: StorageState,
    emergency: EmergencyFile,
    failing_since: Option<Instant>,
    /// Jobs whose outcome is in the file.
    copied: BTreeSet<i64>,
    running: Option<RunningCopy>,
    /// When and why the last copy failed.
    failure: Option<(Instant, String)>,
}

/// A copy that is being made.
struct RunningCopy {
    jobs: BTreeSet<i64>,
    result: oneshot::Receiver<Result<PathBuf, String>>,
}

impl OutcomeCopy {
    fn new(storage: StorageState, emergency: EmergencyFile) -> Self {
        Self { storage, emergency, failing_since: None, copied: BTreeSet::new(), running: None, failure: None }
    }

    fn update(&mut self, is_failing: bool, hangs: bool) {
        self.receive_result();
        if self.running.is_some() {
            return;
        }
        if !is_failing {
            self.failing_since = None;
            self.failure = None;
        } else if self.failing_since.get_or_insert_with(Instant::now).elapsed() >= COPY_AFTER {
            let outcomes = self.storage.unwritten();
            let is_due = self.failure.as_ref().is_none_or(|(failed, _)| failed.elapsed() >= COPY_AGAIN_AFTER);
            if is_due && outcomes.iter().any(|outcome| !self.copied.contains(&outcome.seq)) {
                let jobs = outcomes.iter().map(|outcome| outcome.seq).collect();
                let result = start_copy(self.emergency.clone(), outcomes, hangs);
                self.running = Some(RunningCopy { jobs, result });
            }
            return;
        }
        let is_committed = || self.storage.unwritten().iter().all(|outcome| !self.copied.contains(&outcome.seq));
        if !self.copied.is_empty() && is_committed() {
            self.copied.clear();
            self.emergency.delete();
        }
    }

    fn receive_result(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let result = match running.result.try_recv() {
            Ok(result) => result,
            Err(oneshot::error::TryRecvError::Closed) => Err(NO_THREAD.to_owned()),
            Err(oneshot::error::TryRecvError::Empty) => {
                self.running = Some(running);
                return;
            }
        };
        let outcomes = running.jobs.len();
        match result {
            Ok(file) => {
                EmergencyFileWritten { outcomes, file: Ok(&file) }.emit();
                self.copied = running.jobs;
                self.failure = None;
            }
            Err(reason) => {
                // Tried again for as long as the disk fails, so it is logged once.
                if self.failure.as_ref().is_none_or(|(_, last)| *last != reason) {
                    EmergencyFileWritten { outcomes, file: Err(&reason) }.emit();
                }
                self.failure = Some((Instant::now(), reason));
            }
        }
    }
}

async fn copy_in_thread(
    emergency: EmergencyFile,
    outcomes: Vec<Arc<UnwrittenOutcome>>,
    queue_hangs: bool,
) -> Result<PathBuf, String> {
    start_copy(emergency, outcomes, queue_hangs).await.unwrap_or_else(|_| Err(NO_THREAD.to_owned()))
}

/// Copies on a thread of its own. The runtime waits for its own threads at the end, and this one may hang.
fn start_copy(
    emergency: EmergencyFile,
    outcomes: Vec<Arc<UnwrittenOutcome>>,
    queue_hangs: bool,
) -> oneshot::Receiver<Result<PathBuf, String>> {
    let (result, receiver) = oneshot::channel();
    let copy = move || {
        let _ = result.send(emergency.write(&outcomes, queue_hangs));
    };
    // If it can't be started, the receiver is closed.
    let _ = std::thread::Builder::new().name("emergency-file".to_owned()).spawn(copy);
    receiver
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::advance;

    use super::*;
    use crate::domain::EventType;

    fn outcome(seq: i64) -> Arc<UnwrittenOutcome> {
        let event_type = EventType::Failed;
        let event_json = "{}".to_owned();
        Arc::new(UnwrittenOutcome { seq, key: None, event_type, attempts: 1, service_id: None, event_json })
    }

    /// Updates it while commits fail, and waits for the copy that this starts. Returns whether there was one.
    fn fail(copy: &mut OutcomeCopy) -> bool {
        copy.update(true, false);
        let was_started = copy.running.is_some();
        while copy.running.is_some() {
            std::thread::yield_now();
            copy.receive_result();
        }
        was_started
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_failed_is_repeated_until_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("results");
        let storage = StorageState::default();
        storage.add(&outcome(1));
        let mut copy = OutcomeCopy::new(storage.clone(), EmergencyFile::at(folder.join("outcomes")));
        assert!(!fail(&mut copy), "it may end by itself");
        advance(COPY_AFTER).await;
        assert!(fail(&mut copy));
        assert!(copy.failure.is_some(), "there is no folder");
        fs::create_dir(&folder).unwrap();
        assert!(!fail(&mut copy), "it waits");
        advance(COPY_AGAIN_AFTER).await;
        assert!(fail(&mut copy));
        assert!(folder.join("outcomes").exists());
        assert!(!fail(&mut copy), "it is complete");
        copy.update(false, false);
        assert!(folder.join("outcomes").exists(), "the outcome isn't committed");
        storage.remove(1);
        copy.update(false, false);
        assert!(!folder.join("outcomes").exists());
    }

    #[test]
    fn the_last_line_says_that_a_temporary_folder_may_vanish() {
        let text = |folder: PathBuf| {
            let copy = Ok(folder.join("outcomes"));
            UnwrittenOutcomes { reason: "disk full".to_owned(), service_ids: Vec::new(), outcomes: 2, copy }.to_string()
        };
        assert!(text(PathBuf::from("/results")).ends_with("no link is lost."));
        assert!(
            text(std::env::temp_dir()).contains("no link is lost as long as that folder for temporary files is kept")
        );
    }
}
