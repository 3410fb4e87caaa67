//! Decides which message is retried next on routes where the broker refuses messages: a queue is full, or none is
//! bound.
//!
//! The other messages of the route wait, and only one is retried, with growing delays. Once it is accepted the others
//! follow one by one, because a full queue accepts one message and refuses the next. After a few accepted in a row the
//! route is open again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// First and longest delay before a refused message is retried.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Messages accepted in a row, while others wait, after which a route is open again.
const ACCEPTED_ENOUGH: u32 = 16;

/// Routes on which messages are refused. A route is an exchange and a routing key, of which there are few.
#[derive(Debug, Default)]
pub(crate) struct RefusedRoutes {
    /// Number of routes. Almost always zero, in which case a publish costs no lock.
    count: AtomicUsize,
    routes: Mutex<HashMap<String, Arc<RefusedRoute>>>,
}

/// A route on which messages are refused.
#[derive(Debug)]
struct RefusedRoute {
    /// One permit; closed once the route is open again.
    retry: Arc<Semaphore>,
    counts: Mutex<RouteCounts>,
}

#[derive(Debug, Default)]
struct RouteCounts {
    refused_in_a_row: u32,
    accepted_in_a_row: u32,
    waiting: u32,
}

/// The route's only permit to retry. Dropping it lets the next message retry.
#[derive(Debug)]
pub(crate) struct RetryPermit {
    name: String,
    route: Arc<RefusedRoute>,
    _permit: OwnedSemaphorePermit,
}

/// How a refused message continues.
#[derive(Debug)]
pub(crate) enum RetryAdmission {
    /// The first refused message of the route: the caller logs the refusal, and retries after a delay.
    First(RetryPermit),
    /// Retry at once.
    Next(RetryPermit),
    /// The route was opened while the message waited: retry at once, without a permit.
    Open,
}

impl RefusedRoutes {
    /// Waits behind the refused messages of the route. `None`: no message of the route is refused.
    pub(crate) async fn wait(&self, exchange: &str, routing_key: &str) -> Option<RetryPermit> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let name = route_name(exchange, routing_key);
        let route = Arc::clone(self.routes().get(&name)?);
        route.permit(name).await
    }

    /// Waits until a message that was refused without a permit may be retried.
    pub(crate) async fn admit(&self, exchange: &str, routing_key: &str) -> RetryAdmission {
        let name = route_name(exchange, routing_key);
        let (route, is_first) = {
            let mut routes = self.routes();
            let before = routes.len();
            let route = Arc::clone(routes.entry(name.clone()).or_default());
            self.count.store(routes.len(), Ordering::Release);
            (route, routes.len() > before)
        };
        match route.permit(name).await {
            Some(permit) if is_first => RetryAdmission::First(permit),
            Some(permit) => RetryAdmission::Next(permit),
            None => RetryAdmission::Open,
        }
    }

    /// Returns the number of routes on which messages are refused.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The message with the permit was accepted. Returns whether the route is open again.
    pub(crate) fn accepted(&self, permit: RetryPermit) -> bool {
        let mut routes = self.routes();
        let mut counts = permit.route.counts();
        counts.refused_in_a_row = 0;
        counts.accepted_in_a_row += 1;
        let is_open = counts.waiting == 0 || counts.accepted_in_a_row >= ACCEPTED_ENOUGH;
        if is_open {
            routes.remove(&permit.name);
            self.count.store(routes.len(), Ordering::Release);
            // Every waiting message is retried at once.
            permit.route.retry.close();
        }
        is_open
    }

    fn routes(&self) -> MutexGuard<'_, HashMap<String, Arc<RefusedRoute>>> {
        // No critical section panics halfway through a change.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for RefusedRoute {
    fn default() -> Self {
        Self { retry: Arc::new(Semaphore::new(1)), counts: Mutex::default() }
    }
}

impl RefusedRoute {
    async fn permit(self: Arc<Self>, name: String) -> Option<RetryPermit> {
        let waiting = WaitingMessage::new(&self);
        let permit = Arc::clone(&self.retry).acquire_owned().await;
        drop(waiting);
        Some(RetryPermit { name, route: self, _permit: permit.ok()? })
    }

    fn counts(&self) -> MutexGuard<'_, RouteCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RetryPermit {
    /// The message was refused again. Returns the number of refusals in a row, and the delay before the next retry.
    pub(crate) fn refused(&self) -> (u32, Duration) {
        let mut counts = self.route.counts();
        counts.accepted_in_a_row = 0;
        let delay = RETRY_DELAY.0.saturating_mul(1 << counts.refused_in_a_row.min(5)).min(RETRY_DELAY.1);
        counts.refused_in_a_row += 1;
        (counts.refused_in_a_row, delay)
    }
}

/// Counts a waiting message, also if its future is dropped.
struct WaitingMessage<'r>(&'r RefusedRoute);

impl<'r> WaitingMessage<'r> {
    fn new(route: &'r RefusedRoute) -> Self {
        route.counts().waiting += 1;
        Self(route)
    }
}

impl Drop for WaitingMessage<'_> {
    fn drop(&mut self) {
        self.0.counts().waiting -= 1;
    }
}

fn route_name(exchange: &str, routing_key: &str) -> String {
    format!("{exchange}/{routing_key}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::task::JoinSet;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// Publishes messages to a broker that refuses them for a time. Returns the number of publishes, the time that
    /// passed and the number of refused routes at the end.
    async fn publish_all(messages: u32, refuses_for: Duration) -> (u32, Duration, usize) {
        let (routes, published) = (Arc::new(RefusedRoutes::default()), Arc::new(AtomicU32::new(0)));
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..messages {
            let (routes, published) = (Arc::clone(&routes), Arc::clone(&published));
            tasks.spawn(async move {
                let mut permit = routes.wait("x", "k").await;
                loop {
                    published.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(5)).await;
                    let is_refused = start.elapsed() < refuses_for;
                    match (&permit, is_refused) {
                        (_, false) => break permit.map(|permit| routes.accepted(permit)),
                        (Some(permit), true) => sleep(permit.refused().1).await,
                        (None, true) => match routes.admit("x", "k").await {
                            RetryAdmission::First(first) => {
                                sleep(first.refused().1).await;
                                permit = Some(first);
                            }
                            RetryAdmission::Next(next) => permit = Some(next),
                            RetryAdmission::Open => {}
                        },
                    }
                }
            });
        }
        tasks.join_all().await;
        (published.load(Ordering::Relaxed), start.elapsed(), routes.count())
    }

    #[tokio::test(start_paused = true)]
    async fn one_message_is_retried_and_the_others_wait_until_it_is_accepted() {
        let (published, took, refused_routes) = publish_all(100, Duration::from_secs(600)).await;
        // Each message once, one of them some twenty times more, and each once again.
        assert!((200..240).contains(&published), "{published}");
        assert!((600..632).contains(&took.as_secs()), "{took:?}");
        assert_eq!(refused_routes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_message_waits_where_none_is_refused() {
        let (published, took, refused_routes) = publish_all(100, Duration::ZERO).await;
        assert_eq!((published, took, refused_routes), (100, Duration::from_millis(5), 0));
    }
}
