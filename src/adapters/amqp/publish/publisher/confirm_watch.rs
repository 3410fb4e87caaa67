//! Notices that the broker confirms nothing while confirms are due.
//!
//! The confirm timeout is long, because a message that is published again may arrive twice. Creations must stop sooner:
//! the link of each user that is created meanwhile is in memory only.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Time without any confirm, while at least one is due, after which the broker counts as silent. A busy broker with
/// slow disks confirms within some hundred milliseconds, and one confirm for any message is enough.
const SILENT_AFTER: Duration = Duration::from_millis(1_500);

/// Counts the confirms that are due.
#[derive(Debug)]
pub(super) struct ConfirmWatch {
    inner: Mutex<WatchInner>,
    /// The first confirm became due.
    became_due: Notify,
}

#[derive(Debug)]
struct WatchInner {
    due: usize,
    /// Time of the last confirm, or since when confirms are due if that is later.
    quiet_since: Instant,
}

/// A confirm that is due. Dropped without a confirm when the connection breaks or the caller gives up.
#[derive(Debug)]
#[must_use]
pub(super) struct DueConfirm<'w>(&'w ConfirmWatch);

impl ConfirmWatch {
    pub(super) fn new() -> Self {
        Self { inner: Mutex::new(WatchInner { due: 0, quiet_since: Instant::now() }), became_due: Notify::new() }
    }

    /// A message is published.
    pub(super) fn published(&self) -> DueConfirm<'_> {
        let mut inner = self.lock();
        inner.due += 1;
        if inner.due == 1 {
            inner.quiet_since = Instant::now();
            self.became_due.notify_one();
        }
        DueConfirm(self)
    }

    /// Counts the time from now on: before, the broker could not be expected to confirm.
    pub(super) fn restart(&self) {
        self.lock().quiet_since = Instant::now();
    }

    /// Waits until the broker is silent. Cancel-safe.
    pub(super) async fn silent(&self) {
        loop {
            let silent_at = {
                let inner = self.lock();
                (inner.due > 0).then(|| inner.quiet_since + SILENT_AFTER)
            };
            match silent_at {
                Some(at) if at <= Instant::now() => return,
                Some(at) => sleep_until(at).await,
                None => self.became_due.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, WatchInner> {
        // No critical section panics halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DueConfirm<'_> {
    /// The broker has answered: accepted, returned or refused the message.
    pub(super) fn answered(self) {
        self.0.lock().quiet_since = Instant::now();
    }
}

impl Drop for DueConfirm<'_> {
    fn drop(&mut self) {
        self.0.lock().due -= 1;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    async fn is_silent_within(watch: &ConfirmWatch, ms: u64) -> bool {
        timeout(Duration::from_millis(ms), watch.silent()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_is_silent_when_a_confirm_is_due_and_none_comes() {
        let watch = ConfirmWatch::new();
        assert!(!is_silent_within(&watch, 60_000).await, "nothing is due");
        let due = watch.published();
        assert!(!is_silent_within(&watch, 1_400).await);
        assert!(is_silent_within(&watch, 200).await);
        due.answered();
        assert!(!is_silent_within(&watch, 60_000).await, "nothing is due any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_broker_that_confirms_any_message_is_not_silent() {
        let watch = ConfirmWatch::new();
        let _oldest = watch.published();
        for _ in 0..100 {
            let due = watch.published();
            assert!(!is_silent_within(&watch, 1_400).await);
            due.answered();
        }
        assert!(is_silent_within(&watch, 1_600).await);
    }

    #[tokio::test(start_paused = true)]
    async fn time_before_a_restart_and_lost_connections_do_not_count() {
        let watch = ConfirmWatch::new();
        let due = watch.published();
        sleep(Duration::from_secs(60)).await;
        watch.restart();
        assert!(!is_silent_within(&watch, 1_400).await);
        drop(due);
        sleep(Duration::from_secs(60)).await;
        let _next = watch.published();
        assert!(!is_silent_within(&watch, 1_400).await);
    }
}
