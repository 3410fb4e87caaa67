//! Who is next: a person who signs up goes before a migration, which keeps a share.
//!
//! [`Picker`] decides, `Line` is where requests wait for their turn. Both lanes in one line, first come, first
//! served within a lane.
//!
//! **Invariant:** however many bulk jobs wait, whoever signs up has nobody ahead but those who signed up earlier and,
//! where it is owed its share, one bulk job. A bulk job at the head of the line gives way for as long as it waits there.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::domain::Lane;

/// Chooses between the lanes where both want: every turn earns bulk its share of a turn, and a whole turn earned is
/// bulk's. Turns that nobody contests are free, and not more than one turn can be saved up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picker {
    bulk_share_percent: u32,
    earned_percent: u32,
}

impl Picker {
    /// `bulk_share_percent`: of the turns, while `signup` is never empty; 0: none.
    pub(crate) const fn new(bulk_share_percent: u32) -> Self {
        Self { bulk_share_percent, earned_percent: 0 }
    }

    /// Gives bulk another share.
    pub(crate) const fn set_bulk_share(&mut self, percent: u32) {
        self.bulk_share_percent = percent;
    }

    /// The lane that goes first where both want.
    pub(crate) const fn first(&self) -> Lane {
        if self.bulk_share_percent > 0 && self.earned_percent + self.bulk_share_percent >= 100 {
            Lane::Bulk
        } else {
            Lane::Signup
        }
    }

    /// A turn was taken.
    pub(crate) fn took(&mut self, lane: Lane) {
        let earned = self.earned_percent + self.bulk_share_percent;
        self.earned_percent = match lane {
            Lane::Signup => earned.min(100),
            Lane::Bulk => earned.saturating_sub(100),
        };
    }
}

/// A line for one place at its head.
#[derive(Debug)]
pub(crate) struct Line {
    state: Mutex<State>,
    overtaken: Notify,
}

#[derive(Debug)]
struct State {
    picker: Picker,
    at_head: Option<AtHead>,
    signup: VecDeque<oneshot::Sender<()>>,
    bulk: VecDeque<oneshot::Sender<()>>,
}

/// Who is at the head.
#[derive(Debug, Clone, Copy)]
struct AtHead {
    lane: Lane,
    /// What bulk had earned before this turn was taken: it is given back where the head gives way.
    earned_percent: u32,
}

impl State {
    /// This lane is at the head from now on.
    fn takes_head(&mut self, lane: Lane) {
        self.at_head = Some(AtHead { lane, earned_percent: self.picker.earned_percent });
        self.picker.took(lane);
    }

    /// Whether the head is a bulk job, has not been owed its turn, and somebody signs up.
    fn is_overtaken(&self) -> bool {
        let before = |head: AtHead| Picker { earned_percent: head.earned_percent, ..self.picker };
        let gives_way = |head: AtHead| head.lane == Lane::Bulk && before(head).first() == Lane::Signup;
        self.at_head.is_some_and(gives_way) && self.signup.iter().any(|waiting| !waiting.is_closed())
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<oneshot::Sender<()>> {
        match lane {
            Lane::Signup => &mut self.signup,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Takes the next out of the line who still waits.
    fn next(&mut self) -> Option<(Lane, oneshot::Sender<()>)> {
        let first = self.picker.first();
        let second = if first == Lane::Signup { Lane::Bulk } else { Lane::Signup };
        for lane in [first, second] {
            while let Some(waiting) = self.lane(lane).pop_front() {
                if !waiting.is_closed() {
                    return Some((lane, waiting));
                }
            }
        }
        None
    }
}

impl Line {
    pub(crate) const fn new(bulk_share_percent: u32) -> Self {
        let picker = Picker::new(bulk_share_percent);
        let state = State { picker, at_head: None, signup: VecDeque::new(), bulk: VecDeque::new() };
        Self { state: Mutex::new(state), overtaken: Notify::const_new() }
    }

    pub(crate) fn set_bulk_share(&self, percent: u32) {
        self.lock().picker.set_bulk_share(percent);
    }

    /// Waits until this is the head of the line. Cancel-safe.
    pub(crate) async fn head(&self, lane: Lane) -> Head<'_> {
        match self.enter(lane) {
            Some(waiting) => waiting.called().await,
            None => Head { line: self },
        }
    }

    /// `None`: the line was empty, and its head is taken now.
    fn enter(&self, lane: Lane) -> Option<Waiting<'_>> {
        let mut state = self.lock();
        if state.at_head.is_none() {
            state.takes_head(lane);
            return None;
        }
        let (call, called) = oneshot::channel();
        state.lane(lane).push_back(call);
        if state.is_overtaken() {
            self.overtaken.notify_waiters();
        }
        Some(Waiting { line: self, called, is_over: false })
    }

    fn leave(&self) {
        let mut state = self.lock();
        while let Some((lane, waiting)) = state.next() {
            if waiting.send(()).is_ok() {
                state.takes_head(lane);
                return;
            }
        }
        state.at_head = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody in the line. One who is called and has gone passes the call on.
struct Waiting<'l> {
    line: &'l Line,
    called: oneshot::Receiver<()>,
    is_over: bool,
}

impl<'l> Waiting<'l> {
    /// Cancel-safe.
    async fn called(mut self) -> Head<'l> {
        // The sender is dropped only with the line.
        let _ = (&mut self.called).await;
        self.is_over = true;
        Head { line: self.line }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.called.close();
        if !self.is_over && self.called.try_recv().is_ok() {
            self.line.leave();
        }
    }
}

/// The head of the line. Dropping it calls the next.
#[derive(Debug)]
#[must_use]
pub(crate) struct Head<'l> {
    line: &'l Line,
}

impl<'l> Head<'l> {
    /// Waits until somebody signs up for whom this one should give way. Never for a signup. Cancel-safe.
    pub(crate) async fn overtaken(&self) {
        loop {
            // Before it is looked: whoever comes in between is heard.
            let overtaken = self.line.overtaken.notified();
            if self.line.lock().is_overtaken() {
                return;
            }
            overtaken.await;
        }
    }

    /// Lets them go ahead, and waits for the head again as the first of its lane. Cancel-safe.
    pub(crate) async fn give_way(self) -> Head<'l> {
        let waiting = {
            let mut state = self.line.lock();
            let (call, called) = oneshot::channel();
            if let Some(AtHead { lane, earned_percent }) = state.at_head {
                state.picker.earned_percent = earned_percent;
                state.lane(lane).push_front(call);
            }
            Waiting { line: self.line, called, is_over: false }
        };
        // Calls the next, who may be this one.
        drop(self);
        waiting.called().await
    }
}

impl Drop for Head<'_> {
    fn drop(&mut self) {
        self.line.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;

    /// The lanes of so many turns where both always want.
    fn turns(share_percent: u32, count: usize) -> Vec<Lane> {
        let mut picker = Picker::new(share_percent);
        let turn = |_| {
            let lane = picker.first();
            picker.took(lane);
            lane
        };
        (0..count).map(turn).collect()
    }

    #[test]
    fn bulk_has_its_share_and_never_two_turns_in_a_row_while_signup_is_never_empty() {
        for share_percent in [0, 1, 7, 10, 25, 33, 50] {
            let turns = turns(share_percent, 10_000);
            let bulk = turns.iter().filter(|lane| **lane == Lane::Bulk).count();
            assert!(bulk.abs_diff(share_percent as usize * 100) <= 1, "{share_percent} %: {bulk} of 10,000");
            assert!(!turns.windows(2).any(|two| two == [Lane::Bulk; 2]), "{share_percent} %");
        }
    }

    #[test]
    fn turns_that_nobody_contests_neither_cost_bulk_anything_nor_add_up() {
        let mut picker = Picker::new(10);
        (0..1_000).for_each(|_| picker.took(Lane::Bulk));
        assert_eq!(picker.first(), Lane::Signup);
        (0..1_000).for_each(|_| picker.took(Lane::Signup));
        assert_eq!(picker.first(), Lane::Bulk);
        picker.took(Lane::Bulk);
        assert_eq!(picker.first(), Lane::Signup);
    }

    #[tokio::test]
    async fn whoever_signs_up_is_next_however_long_bulk_waits() {
        let line = Arc::new(Line::new(10));
        let head = line.head(Lane::Bulk).await;
        let mut bulk = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let line = Arc::clone(&line);
            bulk.spawn(async move {
                let _head = line.head(Lane::Bulk).await;
                std::future::pending::<()>().await;
            });
        }
        tokio::task::yield_now().await;
        let signup = line.head(Lane::Signup);
        let (signup, ()) = tokio::join!(timeout(Duration::from_secs(5), signup), async {
            tokio::task::yield_now().await;
            drop(head);
        });
        assert!(signup.is_ok());
    }

    #[tokio::test]
    async fn a_bulk_job_that_waits_at_the_head_gives_way_and_is_the_next_of_its_lane() {
        let line = Line::new(10);
        let head = line.head(Lane::Bulk).await;
        assert!(head.overtaken().now_or_never().is_none(), "nobody signs up");
        let mut behind = Box::pin(line.head(Lane::Bulk));
        assert!(behind.as_mut().now_or_never().is_none());
        let mut signup = Box::pin(line.head(Lane::Signup));
        assert!(signup.as_mut().now_or_never().is_none());
        head.overtaken().now_or_never().expect("somebody signs up");
        let mut again = Box::pin(head.give_way());
        assert!(again.as_mut().now_or_never().is_none());
        let signup = signup.now_or_never().expect("the signup is at the head");
        assert!(behind.as_mut().now_or_never().is_none());
        drop(signup);
        drop(again.now_or_never().expect("the bulk job is at the head again"));
        assert!(behind.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_share_that_is_set_while_a_bulk_job_waits_at_the_head_holds_after_it_gave_way() {
        let line = Line::new(50);
        drop(line.head(Lane::Signup).await);
        let head = line.head(Lane::Bulk).await;
        line.set_bulk_share(0);
        let mut signups: Vec<_> = (0..5).map(|_| Box::pin(line.head(Lane::Signup))).collect();
        assert!(signups.iter_mut().all(|signup| signup.as_mut().now_or_never().is_none()));
        head.overtaken().now_or_never().expect("bulk is owed nothing any more");
        let mut again = Box::pin(head.give_way());
        for signup in signups {
            assert!(again.as_mut().now_or_never().is_none());
            drop(signup.now_or_never().expect("every signup goes first"));
        }
        assert!(again.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_bulk_job_that_is_owed_its_share_gives_way_to_nobody() {
        let line = Line::new(50);
        drop(line.head(Lane::Signup).await);
        let head = line.head(Lane::Bulk).await;
        let mut signup = Box::pin(line.head(Lane::Signup));
        assert!(signup.as_mut().now_or_never().is_none());
        assert!(head.overtaken().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_is_called_and_has_gone_passes_the_call_on() {
        let line = Line::new(10);
        let head = line.head(Lane::Signup).await;
        let (mut gone, mut stays) = (Box::pin(line.head(Lane::Signup)), Box::pin(line.head(Lane::Signup)));
        let nobody = Duration::from_millis(1);
        assert!(timeout(nobody, &mut gone).await.is_err());
        assert!(timeout(nobody, &mut stays).await.is_err());
        drop(head);
        drop(gone);
        let head = timeout(nobody, stays).await;
        assert!(head.is_ok());
        drop(head);
        assert!(timeout(nobody, line.head(Lane::Bulk)).await.is_ok());
    }
}
