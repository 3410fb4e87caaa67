//! The last hour, from samples of counters: rates, bars of a chart, times of answers.
//!
//! **Invariant:** bounded: an hour of samples, whatever the load.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::domain::Timestamp;

/// Between two samples that are kept.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Bars of the chart.
pub const MINUTES: usize = 60;

/// An hour, and the one before its first minute.
const SAMPLES_MAX: usize = MINUTES * 6 + 7;

/// How far back a rate looks.
const RATE_OVER: Duration = Duration::from_secs(60);

/// How far back the times of answers look.
const LATENCY_OVER: Duration = Duration::from_secs(300);

const MINUTE_MS: i64 = 60_000;

/// Counters at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Jobs that ended, by [`crate::domain::EventType::ALL`].
    pub ended: [u64; 4],
    /// Requests of any kind.
    pub requests: u64,
    /// Creations by how long they took: upper bound in seconds, cumulative count.
    pub creations: Vec<(f64, u64)>,
}

/// What ended in one minute of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Minute {
    /// Its beginning.
    pub at: Timestamp,
    /// By [`crate::domain::EventType::ALL`].
    pub ended: [u64; 4],
}

/// See the module.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
}

impl History {
    /// Keeps a sample if the last one is old enough.
    pub fn keep(&mut self, sample: &Sample) {
        if self.samples.back().is_some_and(|last| sample.at.since(last.at) < SAMPLE_EVERY) {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample.clone());
    }

    /// Jobs and requests in a second, over the last minute.
    pub fn rates(&self, now: &Sample) -> (f64, f64) {
        let Some(before) = self.back(now, RATE_OVER) else { return (0.0, 0.0) };
        let seconds = now.at.since(before.at).as_secs_f64();
        if seconds < 1.0 {
            return (0.0, 0.0);
        }
        let ended = |sample: &Sample| sample.ended.iter().sum::<u64>();
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        (per_second(ended(now), ended(before)), per_second(now.requests, before.requests))
    }

    /// The time, in seconds, within which this share of the creations of the last minutes was answered; between two
    /// bounds of the histogram it is taken in proportion. `None`: there were none.
    pub fn answered_within(&self, now: &Sample, share: f64) -> Option<f64> {
        let before = self.back(now, LATENCY_OVER)?;
        let counts: Vec<(f64, u64)> = now
            .creations
            .iter()
            .zip(&before.creations)
            .map(|((bound, count), (_, before))| (*bound, count.saturating_sub(*before)))
            .collect();
        quantile(&counts, share)
    }

    /// One bar for each minute of the last hour, the current one last.
    pub fn minutes(&self, now: &Sample) -> Vec<Minute> {
        let current = now.at.unix_ms().div_euclid(MINUTE_MS);
        let first = current - MINUTES as i64 + 1;
        let mut before = self.at(Timestamp::from_unix_ms(first * MINUTE_MS), now);
        let minutes = (first..=current).map(|minute| {
            let end = Timestamp::from_unix_ms((minute + 1) * MINUTE_MS);
            let after = if minute == current { now } else { self.at(end, now) };
            let ended = std::array::from_fn(|index| after.ended[index].saturating_sub(before.ended[index]));
            before = after;
            Minute { at: Timestamp::from_unix_ms(minute * MINUTE_MS), ended }
        });
        minutes.collect()
    }

    /// The last sample until then; the first where all are later.
    fn at<'s>(&'s self, then: Timestamp, now: &'s Sample) -> &'s Sample {
        self.samples.iter().rev().find(|sample| sample.at <= then).or(self.samples.front()).unwrap_or(now)
    }

    fn back(&self, now: &Sample, over: Duration) -> Option<&Sample> {
        self.samples.iter().rev().find(|sample| now.at.since(sample.at) >= over).or(self.samples.front())
    }
}

fn quantile(counts: &[(f64, u64)], share: f64) -> Option<f64> {
    let total = counts.last().map(|(_, count)| *count).filter(|total| *total > 0)?;
    let wanted = share * total as f64;
    let (mut low, mut below) = (0.0, 0);
    for (bound, count) in counts {
        if *count as f64 >= wanted && *count > below {
            // Beyond the last bound nothing is known but that.
            let width = if bound.is_finite() { bound - low } else { 0.0 };
            return Some(low + width * (wanted - below as f64) / (count - below) as f64);
        }
        (low, below) = (if bound.is_finite() { *bound } else { low }, *count);
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, created: u64) -> Sample {
        Sample {
            at: Timestamp::from_unix_ms(second * 1_000),
            ended: [created, 0, 0, 0],
            requests: created * 2,
            creations: vec![(0.1, created / 2), (1.0, created), (f64::INFINITY, created)],
        }
    }

    /// Ten jobs a second for so long.
    fn history(seconds: i64) -> History {
        let mut history = History::default();
        for second in 0..=seconds {
            history.keep(&sample(second, second as u64 * 10));
        }
        history
    }

    #[test]
    fn every_minute_of_the_last_hour_has_its_bar_and_nothing_older() {
        let now = sample(7_230, 72_300);
        let minutes = history(7_230).minutes(&now);
        assert_eq!(minutes.len(), MINUTES);
        assert!(minutes[..59].iter().all(|minute| minute.ended == [600, 0, 0, 0]), "{minutes:?}");
        let current = Minute { at: Timestamp::from_unix_ms(7_200_000), ended: [300, 0, 0, 0] };
        assert_eq!(minutes[59], current);
    }

    #[test]
    fn a_young_worker_has_empty_bars_before_its_start() {
        let minutes = history(90).minutes(&sample(95, 950));
        assert_eq!(minutes[58].ended, [600, 0, 0, 0]);
        assert_eq!(minutes[59].ended, [350, 0, 0, 0]);
        assert!(minutes[..58].iter().all(|minute| minute.ended == [0; 4]));
    }

    #[test]
    fn memory_is_bounded_by_an_hour() {
        assert_eq!(history(20_000).samples.len(), SAMPLES_MAX);
    }

    #[test]
    fn rates_and_times_look_at_the_last_minutes_only() {
        let mut history = history(3_600);
        let (jobs, requests) = history.rates(&sample(3_600, 36_000));
        assert!((jobs - 10.0).abs() < 0.01 && (requests - 20.0).abs() < 0.01, "{jobs} {requests}");
        assert_eq!(history.answered_within(&sample(3_600, 36_000), 0.5), Some(0.1));
        for second in 3_601..=4_000 {
            history.keep(&sample(second, 36_000));
        }
        assert_eq!(history.rates(&sample(4_000, 36_000)), (0.0, 0.0));
        assert_eq!(history.answered_within(&sample(4_000, 36_000), 0.5), None);
    }

    #[test]
    fn a_quantile_lies_between_the_bounds_of_its_bucket() {
        let counts = [(0.1, 50), (1.0, 90), (f64::INFINITY, 100)];
        for (share, expected) in [(0.25, 0.05), (0.5, 0.1), (0.7, 0.55), (0.99, 1.0)] {
            let found = quantile(&counts, share).unwrap();
            assert!((found - expected).abs() < 1e-9, "{share}: {found}");
        }
        assert_eq!(quantile(&[(0.1, 0), (f64::INFINITY, 0)], 0.5), None);
    }
}
