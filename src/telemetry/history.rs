//! The last hour, from samples of counters: rates, the bars of the chart, latencies.
//!
//! **Invariant:** bounded: one hour of samples, whatever the load.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::domain::Timestamp;

/// Time between two samples.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Bars of the chart, one a minute.
pub(crate) const MINUTES: usize = 60;

/// One hour, the sample before its first minute, and the current minute.
const SAMPLES_MAX: usize = MINUTES * 6 + 7;

/// Period of a rate.
const RATE_OVER: Duration = Duration::from_secs(60);

/// Period of the latencies.
const LATENCY_OVER: Duration = Duration::from_secs(300);

const MINUTE_MS: i64 = 60_000;

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StatusSample {
    /// Time of the sample.
    pub at: Timestamp,
    /// Finished jobs, by [`crate::domain::EventType::ALL`].
    pub ended: [u64; 4],
    /// Requests, creations and pages of the user list.
    pub requests: u64,
    /// Creations by duration: upper bound in seconds, cumulative count.
    pub creations: Vec<(f64, u64)>,
}

/// The jobs that finished in one minute of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct MinuteTotals {
    /// Start of the minute.
    pub at: Timestamp,
    /// Finished jobs, by [`crate::domain::EventType::ALL`].
    pub ended: [u64; 4],
}

/// The samples of the last hour.
#[derive(Debug, Default)]
pub(crate) struct StatusHistory {
    samples: VecDeque<StatusSample>,
}

impl StatusHistory {
    /// Keeps the sample if [`SAMPLE_EVERY`] has passed since the last one.
    pub(crate) fn record(&mut self, sample: &StatusSample) {
        if self.samples.back().is_some_and(|last| sample.at.since(last.at) < SAMPLE_EVERY) {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample.clone());
    }

    /// Finished jobs and requests per second, over the last minute.
    pub(crate) fn rates(&self, now: &StatusSample) -> (f64, f64) {
        let Some(before) = self.sample_before(now, RATE_OVER) else { return (0.0, 0.0) };
        let seconds = now.at.since(before.at).as_secs_f64();
        if seconds < 1.0 {
            return (0.0, 0.0);
        }
        let ended = |sample: &StatusSample| sample.ended.iter().sum::<u64>();
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        (per_second(ended(now), ended(before)), per_second(now.requests, before.requests))
    }

    /// Quantile `share` of the duration of the last five minutes' creations, in seconds. `None` if there were none.
    pub(crate) fn answered_within(&self, now: &StatusSample, share: f64) -> Option<f64> {
        let before = self.sample_before(now, LATENCY_OVER)?;
        let counts: Vec<(f64, u64)> = now
            .creations
            .iter()
            .zip(&before.creations)
            .map(|((bound, count), (_, before))| (*bound, count.saturating_sub(*before)))
            .collect();
        quantile(&counts, share)
    }

    /// One bar for each minute of the last hour, the current minute last.
    pub(crate) fn minutes(&self, now: &StatusSample) -> Vec<MinuteTotals> {
        let current = now.at.unix_ms().div_euclid(MINUTE_MS);
        let first = current - MINUTES as i64 + 1;
        let mut before = self.sample_at(Timestamp::from_unix_ms(first * MINUTE_MS), now);
        let minutes = (first..=current).map(|minute| {
            let end = Timestamp::from_unix_ms((minute + 1) * MINUTE_MS);
            let after = if minute == current { now } else { self.sample_at(end, now) };
            let ended = std::array::from_fn(|index| after.ended[index].saturating_sub(before.ended[index]));
            before = after;
            MinuteTotals { at: Timestamp::from_unix_ms(minute * MINUTE_MS), ended }
        });
        minutes.collect()
    }

    /// The last sample that isn't later than `time`; the first sample if all are later.
    fn sample_at<'s>(&'s self, time: Timestamp, now: &'s StatusSample) -> &'s StatusSample {
        self.samples.iter().rev().find(|sample| sample.at <= time).or(self.samples.front()).unwrap_or(now)
    }

    /// The last sample that is at least `over` old; the first sample if all are younger.
    fn sample_before(&self, now: &StatusSample, over: Duration) -> Option<&StatusSample> {
        self.samples.iter().rev().find(|sample| now.at.since(sample.at) >= over).or(self.samples.front())
    }
}

/// A quantile of a histogram, interpolated linearly within its bucket, as Prometheus does.
fn quantile(counts: &[(f64, u64)], share: f64) -> Option<f64> {
    let total = counts.last().map(|(_, count)| *count).filter(|total| *total > 0)?;
    let wanted = share * total as f64;
    let (mut low, mut below) = (0.0, 0);
    for (bound, count) in counts {
        if *count as f64 >= wanted && *count > below {
            // In the last bucket only the lower bound is known.
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

    fn sample(second: i64, created: u64) -> StatusSample {
        StatusSample {
            at: Timestamp::from_unix_ms(second * 1_000),
            ended: [created, 0, 0, 0],
            requests: created * 2,
            creations: vec![(0.1, created / 2), (1.0, created), (f64::INFINITY, created)],
        }
    }

    /// A history of this many seconds at ten jobs a second.
    fn history(seconds: i64) -> StatusHistory {
        let mut history = StatusHistory::default();
        for second in 0..=seconds {
            history.record(&sample(second, second as u64 * 10));
        }
        history
    }

    #[test]
    fn every_minute_of_the_last_hour_has_a_bar() {
        let now = sample(7_230, 72_300);
        let minutes = history(7_230).minutes(&now);
        assert_eq!(minutes.len(), MINUTES);
        assert!(minutes[..59].iter().all(|minute| minute.ended == [600, 0, 0, 0]), "{minutes:?}");
        let current = MinuteTotals { at: Timestamp::from_unix_ms(7_200_000), ended: [300, 0, 0, 0] };
        assert_eq!(minutes[59], current);
    }

    #[test]
    fn minutes_before_the_start_have_empty_bars() {
        let minutes = history(90).minutes(&sample(95, 950));
        assert_eq!(minutes[58].ended, [600, 0, 0, 0]);
        assert_eq!(minutes[59].ended, [350, 0, 0, 0]);
        assert!(minutes[..58].iter().all(|minute| minute.ended == [0; 4]));
    }

    #[test]
    fn no_more_than_an_hour_of_samples_is_kept() {
        assert_eq!(history(20_000).samples.len(), SAMPLES_MAX);
    }

    #[test]
    fn rates_and_latencies_cover_the_last_minutes_only() {
        let mut history = history(3_600);
        let (jobs, requests) = history.rates(&sample(3_600, 36_000));
        assert!((jobs - 10.0).abs() < 0.01 && (requests - 20.0).abs() < 0.01, "{jobs} {requests}");
        assert_eq!(history.answered_within(&sample(3_600, 36_000), 0.5), Some(0.1));
        for second in 3_601..=4_000 {
            history.record(&sample(second, 36_000));
        }
        assert_eq!(history.rates(&sample(4_000, 36_000)), (0.0, 0.0));
        assert_eq!(history.answered_within(&sample(4_000, 36_000), 0.5), None);
    }

    #[test]
    fn a_quantile_is_between_the_bounds_of_its_bucket() {
        let counts = [(0.1, 50), (1.0, 90), (f64::INFINITY, 100)];
        for (share, expected) in [(0.25, 0.05), (0.5, 0.1), (0.7, 0.55), (0.99, 1.0)] {
            let found = quantile(&counts, share).unwrap();
            assert!((found - expected).abs() < 1e-9, "{share}: {found}");
        }
        assert_eq!(quantile(&[(0.1, 0), (f64::INFINITY, 0)], 0.5), None);
    }
}
