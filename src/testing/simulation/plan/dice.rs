//! Seeded chance, in the shapes that plans need.

use std::ops::Range;
use std::time::Duration;

pub(super) struct Dice(pub(super) fastrand::Rng);

impl Dice {
    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.0.f64() < share
    }

    pub(super) fn ms(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.0.u64(range))
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.usize(..choices.len())]
    }

    /// Returns up to `most` in this share of the cases, else zero.
    pub(super) fn sometimes(&mut self, share: f64, most: f64) -> f64 {
        if self.chance(share) { self.0.f64() * most } else { 0.0 }
    }
}
