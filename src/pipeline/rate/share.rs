//! A worker's share of the fleet's pace: by how many workers it is divided, and whether this one may send at all.
//!
//! Every worker counts the workers now and then and takes its part of the rate. Counts are old the moment they are
//! read, so a worker is careful in both directions:
//!
//! - it sends only while its last count is fresh ([`FRESH`]);
//! - it goes by the highest count of the last while ([`SETTLED`] = [`FRESH`] + the second that the rate is about): who
//!   has left may go on for as long as its last count is fresh, and what it sent still counts for a second;
//! - a newcomer who isn't alone waits for as long before it sends anything: by then the others know.
//!
//! **Invariant:** so no rolling second holds more than the rate, over all workers that count the same queue, whoever
//! starts, stops, dies, or lives on without its broker. Pure: the caller says what time it is.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// How long a count may be relied on, from the moment it was asked for.
pub(crate) const FRESH: Duration = Duration::from_secs(3);

/// From a change of the count to the moment from which on everybody knows, and nobody's requests from before count.
pub(crate) const SETTLED: Duration = Duration::from_secs(4);

/// Most counts that are remembered: more often than that nobody needs to count.
const COUNTS_MAX: usize = 64;

/// What a worker may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The rate divided by this.
    OneOf(NonZeroU32),
    /// Nothing before then.
    Wait(Instant),
    /// Nothing before the workers have been counted.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// When it was asked, and the answer.
    counts: VecDeque<(Instant, NonZeroU32)>,
    /// A newcomer sends from then on.
    admitted: Option<Instant>,
}

impl Share {
    /// The workers were counted, this one among them.
    pub(crate) fn counted(&mut self, asked: Instant, workers: NonZeroU32) {
        let was_away = self.counts.back().is_none_or(|(last, _)| asked.duration_since(*last) > FRESH);
        if was_away {
            self.counts.clear();
            let is_alone = workers == NonZeroU32::MIN;
            self.admitted = Some(if is_alone { asked } else { asked + SETTLED });
        }
        // One count older than the settled ones stays: it held until the next.
        while self.counts.len() >= COUNTS_MAX
            || self.counts.get(1).is_some_and(|(next, _)| asked.duration_since(*next) >= SETTLED)
        {
            self.counts.pop_front();
        }
        self.counts.push_back((asked, workers));
    }

    /// What this worker may send now.
    pub(crate) fn part(&self, now: Instant) -> Part {
        let (Some((last, _)), Some(admitted)) = (self.counts.back(), self.admitted) else { return Part::Unknown };
        if now.duration_since(*last) >= FRESH {
            return Part::Unknown;
        }
        if now < admitted {
            return Part::Wait(admitted);
        }
        let settled = self.counts.iter().skip_while(|(asked, _)| now.duration_since(*asked) >= SETTLED);
        settled.map(|(_, workers)| *workers).max().map_or(Part::Unknown, Part::OneOf)
    }

    /// The last count; `None` where it is out of date.
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

    /// A worker that counts once a second.
    struct Counting {
        share: Share,
        start: Instant,
    }

    impl Counting {
        fn new() -> Self {
            Self { share: Share::default(), start: Instant::now() }
        }

        fn at(&self, second: u32) -> Instant {
            self.start + second * SECOND
        }

        /// What it may send in each second, by the counts of each.
        fn parts(&mut self, first: u32, counts: &[u32]) -> Vec<Part> {
            let seconds = (first..).zip(counts);
            let part = |(second, workers): (u32, &u32)| {
                self.share.counted(self.at(second), n(*workers));
                self.share.part(self.at(second))
            };
            seconds.map(part).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_alone_begins_at_once_with_all_of_it() {
        let mut worker = Counting::new();
        assert_eq!(worker.share.part(worker.start), Part::Unknown);
        assert_eq!(worker.parts(0, &[1]), [Part::OneOf(n(1))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_waits_until_the_others_know() {
        let mut worker = Counting::new();
        let wait = Part::Wait(worker.at(4));
        assert_eq!(worker.parts(0, &[3, 3, 3, 3, 3]), [wait, wait, wait, wait, Part::OneOf(n(3))]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_sees_a_newcomer_yields_at_once_and_who_sees_a_leaver_takes_over_when_nothing_of_it_counts() {
        let mut worker = Counting::new();
        let [one, two] = [1, 2].map(|workers| Part::OneOf(n(workers)));
        assert_eq!(worker.parts(0, &[1, 1, 2, 2]), [one, one, two, two]);
        // Leaves after the count of second 3: four seconds later at the earliest.
        assert_eq!(worker.parts(4, &[1, 1, 1, 1]), [two, two, two, one]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_fresh_count_nothing_leaves_and_who_was_away_is_a_newcomer() {
        let mut worker = Counting::new();
        let two = Part::OneOf(n(2));
        assert_eq!(worker.parts(0, &[2, 2, 2, 2, 2])[4], two);
        assert_eq!(worker.share.part(worker.at(7) - Duration::from_millis(1)), two);
        assert_eq!(worker.share.part(worker.at(7)), Part::Unknown);
        assert_eq!(worker.parts(7, &[2]), [two], "it was away for less than others take to take over");
        let wait = Part::Wait(worker.at(15));
        assert_eq!(worker.parts(11, &[2, 2, 2, 2, 2]), [wait, wait, wait, wait, two]);
    }
}
