//! Which idempotency keys were used, and until when.
//!
//! Invariants: `queue` and `used` hold the same keys; `queue` is in the order of use, so expired
//! keys are all at its front; every key is added once and removed once, so the cost is constant per
//! request and the memory is the keys of one lifetime.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct KeyLedger {
    used: HashSet<u128>,
    queue: VecDeque<(Duration, u128)>,
}

impl KeyLedger {
    /// Forgets every key that is `ttl` old or older. `now` never goes back.
    pub(super) fn evict(&mut self, now: Duration, ttl: Duration) {
        while let Some((used_at, key)) = self.queue.front() {
            if now.saturating_sub(*used_at) < ttl {
                break;
            }
            self.used.remove(key);
            self.queue.pop_front();
        }
    }

    /// Whether the key was used and hasn't been evicted.
    pub(super) fn contains(&self, key: u128) -> bool {
        self.used.contains(&key)
    }

    /// Marks a key as used at `now`.
    pub(super) fn insert(&mut self, now: Duration, key: u128) {
        if self.used.insert(key) {
            self.queue.push_back((now, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_keys_take_no_memory() {
        let ttl = Duration::from_secs(300);
        let mut ledger = KeyLedger::default();
        for second in 0..10_000_u64 {
            let now = Duration::from_secs(second);
            ledger.evict(now, ttl);
            ledger.insert(now, u128::from(second));
            assert!(ledger.queue.len() <= 300, "second {second}");
            assert_eq!(ledger.queue.len(), ledger.used.len(), "second {second}");
        }
    }
}
