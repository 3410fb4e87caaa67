//! Where the broker takes no messages: a queue there is full, or nothing is bound.
//!
//! Whatever is to go there waits in line, and only the first asks again, more and more seldom. Once it gets through the others
//! follow one by one, for a full queue takes one and refuses the next; after a few in a row the line is over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// First and longest pause before a message is published again that was refused.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Taken in a row, while others wait, after which it is over.
const TAKEN_ENOUGH: u32 = 16;

/// The routes with a line. A route is an exchange and a routing key, of which there are few.
#[derive(Debug, Default)]
pub(crate) struct RefusedRoutes {
    /// How many there are: almost always none, which must cost nothing.
    count: AtomicUsize,
    lines: Mutex<HashMap<String, Arc<Line>>>,
}

#[derive(Debug)]
struct Line {
    turns: Arc<Semaphore>,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    refused_in_a_row: u32,
    taken_in_a_row: u32,
    waiting: u32,
}

/// Being the first in line. Dropped, it is the next one's turn.
#[derive(Debug)]
pub(crate) struct Turn {
    route: String,
    line: Arc<Line>,
    _permit: OwnedSemaphorePermit,
}

/// What a refusal means for whoever had it.
#[derive(Debug)]
pub(crate) enum LinedUp {
    /// There was no line: it is told of now, and the pause is due.
    First(Turn),
    /// It is the turn of this one, which asks at once.
    Next(Turn),
    /// The line was over while it waited.
    Over,
}

impl RefusedRoutes {
    /// Waits behind whoever waits there already. `None`: nobody does.
    pub(crate) async fn wait(&self, exchange: &str, routing_key: &str) -> Option<Turn> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let route = route(exchange, routing_key);
        let line = Arc::clone(self.lines().get(&route)?);
        line.turn(route).await
    }

    /// A message was refused that had no turn.
    pub(crate) async fn line_up(&self, exchange: &str, routing_key: &str) -> LinedUp {
        let route = route(exchange, routing_key);
        let (line, is_first) = {
            let mut lines = self.lines();
            let before = lines.len();
            let line = Arc::clone(lines.entry(route.clone()).or_default());
            self.count.store(lines.len(), Ordering::Release);
            (line, lines.len() > before)
        };
        match line.turn(route).await {
            Some(turn) if is_first => LinedUp::First(turn),
            Some(turn) => LinedUp::Next(turn),
            None => LinedUp::Over,
        }
    }

    /// How many routes have a line.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The first in line got through. Says whether the line is over with that.
    pub(crate) fn taken(&self, turn: Turn) -> bool {
        let mut lines = self.lines();
        let mut progress = turn.line.progress();
        progress.refused_in_a_row = 0;
        progress.taken_in_a_row += 1;
        let is_over = progress.waiting == 0 || progress.taken_in_a_row >= TAKEN_ENOUGH;
        if is_over {
            lines.remove(&turn.route);
            self.count.store(lines.len(), Ordering::Release);
            // Everybody who waits goes on at once.
            turn.line.turns.close();
        }
        is_over
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Arc<Line>>> {
        // Every critical section leaves it whole.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Line {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(1)), progress: Mutex::default() }
    }
}

impl Line {
    async fn turn(self: Arc<Self>, route: String) -> Option<Turn> {
        let waiting = Waiting::new(&self);
        let permit = Arc::clone(&self.turns).acquire_owned().await;
        drop(waiting);
        Some(Turn { route, line: self, _permit: permit.ok()? })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// It was refused: how often in a row, and how long to wait before it asks again.
    pub(crate) fn refused(&self) -> (u32, Duration) {
        let mut progress = self.line.progress();
        progress.taken_in_a_row = 0;
        let pause = PAUSE.0.saturating_mul(1 << progress.refused_in_a_row.min(5)).min(PAUSE.1);
        progress.refused_in_a_row += 1;
        (progress.refused_in_a_row, pause)
    }
}

/// Counts who waits, also where it is given up.
struct Waiting<'l>(&'l Line);

impl<'l> Waiting<'l> {
    fn new(line: &'l Line) -> Self {
        line.progress().waiting += 1;
        Self(line)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.progress().waiting -= 1;
    }
}

fn route(exchange: &str, routing_key: &str) -> String {
    format!("{exchange}/{routing_key}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::task::JoinSet;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// A broker that refuses until a time, and the messages that want to get through.
    async fn publish_all(messages: u32, refuses_for: Duration) -> (u32, Duration, usize) {
        let (routes, asked) = (Arc::new(RefusedRoutes::default()), Arc::new(AtomicU32::new(0)));
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..messages {
            let (routes, asked) = (Arc::clone(&routes), Arc::clone(&asked));
            tasks.spawn(async move {
                let mut turn = routes.wait("x", "k").await;
                loop {
                    asked.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(5)).await;
                    let is_refused = start.elapsed() < refuses_for;
                    match (&turn, is_refused) {
                        (_, false) => break turn.map(|turn| routes.taken(turn)),
                        (Some(turn), true) => sleep(turn.refused().1).await,
                        (None, true) => match routes.line_up("x", "k").await {
                            LinedUp::First(first) => {
                                sleep(first.refused().1).await;
                                turn = Some(first);
                            }
                            LinedUp::Next(next) => turn = Some(next),
                            LinedUp::Over => {}
                        },
                    }
                }
            });
        }
        tasks.join_all().await;
        (asked.load(Ordering::Relaxed), start.elapsed(), routes.count())
    }

    #[tokio::test(start_paused = true)]
    async fn one_asks_again_and_the_others_wait_until_it_gets_through() {
        let (asked, took, lines) = publish_all(100, Duration::from_secs(600)).await;
        // All once, one some twenty times more, and all once again.
        assert!((200..240).contains(&asked), "{asked}");
        assert!((600..632).contains(&took.as_secs()), "{took:?}");
        assert_eq!(lines, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_refused_nobody_waits() {
        let (asked, took, lines) = publish_all(100, Duration::ZERO).await;
        assert_eq!((asked, took, lines), (100, Duration::from_millis(5), 0));
    }
}
