//! Counts the events in a rolling second, exactly.
//!
//! The window is half open: two events that are a whole second apart never count together. The memory is the events of
//! one second.

use std::collections::VecDeque;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct RollingSecond {
    events: VecDeque<Duration>,
}

impl RollingSecond {
    /// The number of events in the second that ends at `now`. `now` never decreases.
    pub(super) fn count(&mut self, now: Duration) -> usize {
        while self.events.front().is_some_and(|at| now.saturating_sub(*at) >= WINDOW) {
            self.events.pop_front();
        }
        self.events.len()
    }

    /// Adds an event at `now` and returns the number of events in the second that ends with it.
    pub(super) fn push(&mut self, now: Duration) -> usize {
        let before = self.count(now);
        self.events.push_back(now);
        before + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(arrivals_ms: &[u64]) -> Vec<usize> {
        let mut window = RollingSecond::default();
        arrivals_ms.iter().map(|ms| window.push(Duration::from_millis(*ms))).collect()
    }

    #[test]
    fn events_that_are_a_whole_second_apart_do_not_count_together() {
        assert_eq!(counts(&[0, 999, 1000, 1998, 1999]), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_burst_across_the_start_of_a_second_counts_together() {
        assert_eq!(counts(&[900, 950, 1000, 1050]), [1, 2, 3, 4]);
    }
}
