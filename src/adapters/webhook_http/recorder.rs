//! Records events of webhooks, and retries until each is recorded.
//!
//! Each event is recorded by a task of its own, so recording continues if the webhook's connection is closed or the
//! partner doesn't send the webhook again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::domain::KycEvent;
use crate::ports::{KycSink, QueueError};
use crate::telemetry::{WebhookMetrics, WebhookReceived, WebhookResult};

/// Most events that wait to be recorded, for example while a broker is unreachable. With the longest bodies, 64 MiB.
const RECORDING_MAX: usize = 1_024;

/// Interval at which a repeated webhook checks whether its event is recorded.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// First and longest delay between two attempts to record an event.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Called after each attempt to record an event, with whether it succeeded.
pub(crate) type OnRecorded = Box<dyn Fn(bool) + Send + Sync>;

pub(super) struct EventRecorder<S> {
    sink: S,
    metrics: WebhookMetrics,
    on_recorded: OnRecorded,
    slots: Arc<Semaphore>,
    /// Ids of the events that wait to be recorded.
    waiting: Mutex<HashSet<Uuid>>,
}

impl<S: KycSink> EventRecorder<S> {
    pub(super) fn new(sink: S, metrics: WebhookMetrics, on_recorded: OnRecorded) -> Self {
        let slots = Arc::new(Semaphore::new(RECORDING_MAX));
        Self { sink, metrics, on_recorded, slots, waiting: Mutex::default() }
    }

    /// Records an event. If that fails or takes longer than the time limit, it is retried in the background.
    ///
    /// # Errors
    /// Why the event isn't recorded yet.
    pub(super) async fn record(self: &Arc<Self>, event: Box<KycEvent>, time_limit: Duration) -> Result<(), String> {
        if !self.waiting().insert(event.id) {
            return match timeout(time_limit, self.until_recorded(event.id)).await {
                Ok(()) => Ok(()),
                Err(_) => Err("an earlier webhook has the same event, which isn't recorded yet".to_owned()),
            };
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.waiting().remove(&event.id);
            return Err(format!("{RECORDING_MAX} other events wait to be recorded"));
        };
        let (sender, first_attempt) = oneshot::channel();
        tokio::spawn(Arc::clone(self).retry_until_recorded(event, sender, slot));
        match timeout(time_limit, first_attempt).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(format!("{error}; recording is retried")),
            Ok(Err(_)) => Err("the receiver is stopping".to_owned()),
            Err(_) => Err(format!("it wasn't recorded within {} s; recording is retried", time_limit.as_secs())),
        }
    }

    async fn until_recorded(&self, id: Uuid) {
        while self.waiting().contains(&id) {
            sleep(CHECK_EVERY).await;
        }
    }

    /// Sends the result of the first attempt to `first_attempt`.
    async fn retry_until_recorded(
        self: Arc<Self>,
        event: Box<KycEvent>,
        first_attempt: oneshot::Sender<Result<(), QueueError>>,
        _slot: OwnedSemaphorePermit,
    ) {
        let mut first_attempt = Some(first_attempt);
        let (mut delay, delay_max) = RETRY_DELAY;
        loop {
            let result = self.sink.publish(&event).await;
            let is_recorded = result.is_ok();
            (self.on_recorded)(is_recorded);
            if is_recorded {
                self.waiting().remove(&event.id);
                let result = WebhookResult::Published(event.event_type);
                WebhookReceived { result, event: Some(event.id), why: None }.emit(&self.metrics);
            }
            if let Some(first_attempt) = first_attempt.take() {
                // The receiver may have reached its time limit.
                let _ = first_attempt.send(result);
            }
            if is_recorded {
                return;
            }
            sleep(delay).await;
            delay = (delay * 2).min(delay_max);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
