//! Fleet share: which share of the fleet's rate this worker has, and whether it may send at all.
//!
//! Each worker counts the workers about once a second and divides the rate by the count. A count is outdated the moment
//! it is read, so a worker is careful in both directions:
//!
//! - It sends only while its last count is fresh ([`FRESH`]).
//! - It divides by the highest count of the last [`SETTLED`] = [`FRESH`] + 1 s: a worker that left may send for as long
//!   as its own last count is fresh, and its requests count for another second.
//! - A new worker that isn't alone waits for [`SETTLED`] before it sends: by then the others have counted it.
//!
//! **Invariant:** no rolling second holds more requests than the rate, over all workers that count the same queue,
//! whichever of them start, stop, die or lose their broker.
//!
//! Pure: the caller passes the current time.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// How long a count is valid, from the moment it was asked for.
pub(crate) const FRESH: Duration = Duration::from_secs(3);

/// How long after a change of the count all workers know it and no earlier request counts any more.
pub(crate) const SETTLED: Duration = Duration::from_secs(4);

/// Most counts that are kept; bounds memory if workers are counted more often than 16 times a second.
const COUNTS_MAX: usize = 64;

/// What this worker may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerShare {
    /// The rate divided by this number of workers.
    OneOf(NonZeroU32),
    /// Nothing until then.
    NotBefore(Instant),
    /// Nothing until the workers have been counted.
    Unknown,
}

#[derive(Debug, Default)]
pub(crate) struct FleetShare {
    /// When each count was asked for, and its result; oldest first.
    counts: VecDeque<(Instant, NonZeroU32)>,
    /// From when on this worker may send, if it is new.
    admitted: Option<Instant>,
}

impl FleetShare {
    /// Adds a count of the workers, this one included.
    pub(crate) fn counted(&mut self, asked: Instant, workers: NonZeroU32) {
        let was_away = self.counts.back().is_none_or(|(last, _)| asked.duration_since(*last) > FRESH);
        if was_away {
            self.counts.clear();
            let is_alone = workers == NonZeroU32::MIN;
            self.admitted = Some(if is_alone { asked } else { asked + SETTLED });
        }
        // Keeps one count that is older than SETTLED: it was valid until the next one.
        while self.counts.len() >= COUNTS_MAX
            || self.counts.get(1).is_some_and(|(next, _)| asked.duration_since(*next) >= SETTLED)
        {
            self.counts.pop_front();
        }
        self.counts.push_back((asked, workers));
    }

    /// Returns what this worker may send now.
    pub(crate) fn current(&self, now: Instant) -> WorkerShare {
        let (Some((last, _)), Some(admitted)) = (self.counts.back(), self.admitted) else {
            return WorkerShare::Unknown;
        };
        if now.duration_since(*last) >= FRESH {
            return WorkerShare::Unknown;
        }
        if now < admitted {
            return WorkerShare::NotBefore(admitted);
        }
        let settled = self.counts.iter().skip_while(|(asked, _)| now.duration_since(*asked) >= SETTLED);
        settled.map(|(_, workers)| *workers).max().map_or(WorkerShare::Unknown, WorkerShare::OneOf)
    }

    /// Returns the last count; `None` if it is outdated.
    pub(crate) fn workers(&self, now: Instant) -> Option<NonZeroU32> {
        self.counts.back().filter(|(asked, _)| now.duration_since(*asked) < FRESH).map(|(_, workers)| *workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn n(workers: u32) -> NonZeroU32 {
        NonZeroU32::new(workers).unwrap()
    }

    /// A worker that counts the fleet once a second.
    struct CountingWorker {
        share: FleetShare,
        start: Instant,
    }

    impl CountingWorker {
        fn new() -> Self {
            Self { share: FleetShare::default(), start: Instant::now() }
        }

        fn at(&self, second: u32) -> Instant {
            self.start + second * SECOND
        }

        /// Returns its share in each second from `first` on, given the count of each second.
        fn shares(&mut self, first: u32, counts: &[u32]) -> Vec<WorkerShare> {
            let seconds = (first..).zip(counts);
            let share = |(second, workers): (u32, &u32)| {
                self.share.counted(self.at(second), n(*workers));
                self.share.current(self.at(second))
            };
            seconds.map(share).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_alone_sends_at_once_at_the_full_rate() {
        let mut worker = CountingWorker::new();
        assert_eq!(worker.share.current(worker.start), WorkerShare::Unknown);
        assert_eq!(worker.shares(0, &[1]), [WorkerShare::OneOf(n(1))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_worker_waits_until_the_others_have_counted_it() {
        let mut worker = CountingWorker::new();
        let wait = WorkerShare::NotBefore(worker.at(4));
        assert_eq!(worker.shares(0, &[3, 3, 3, 3, 3]), [wait, wait, wait, wait, WorkerShare::OneOf(n(3))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_shrinks_at_once_and_grows_when_the_old_requests_no_longer_count() {
        let mut worker = CountingWorker::new();
        let [one, two] = [1, 2].map(|workers| WorkerShare::OneOf(n(workers)));
        assert_eq!(worker.shares(0, &[1, 1, 2, 2]), [one, one, two, two]);
        // The other worker may have left right after the count of second 3: its share is free four seconds later.
        assert_eq!(worker.shares(4, &[1, 1, 1, 1]), [two, two, two, one]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_fresh_count_nothing_is_sent_and_a_returning_worker_is_new() {
        let mut worker = CountingWorker::new();
        let two = WorkerShare::OneOf(n(2));
        assert_eq!(worker.shares(0, &[2, 2, 2, 2, 2])[4], two);
        assert_eq!(worker.share.current(worker.at(7) - Duration::from_millis(1)), two);
        assert_eq!(worker.share.current(worker.at(7)), WorkerShare::Unknown);
        assert_eq!(worker.shares(7, &[2]), [two], "away for less time than others wait before they take its share");
        let wait = WorkerShare::NotBefore(worker.at(15));
        assert_eq!(worker.shares(11, &[2, 2, 2, 2, 2]), [wait, wait, wait, wait, two]);
    }
}
