//! The used idempotency keys: what each was used for, and when it expires.
//!
//! Invariants: `queue` and `used` hold the same keys. `queue` is in the order of use, so expired keys are at its front.
//! Each key is added once and removed once, so a request costs constant time, and the memory is the keys of one TTL.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// The result of the request that used a key: enough to give its answer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstUse {
    /// The user at this position was created.
    Created(usize),
    Duplicate,
    Blacklisted,
    InvalidProgram,
    Deleted,
    UserNotFound,
    /// The number of cards.
    ActiveCards(u32),
}

#[derive(Debug, Default)]
pub(super) struct KeyLedger {
    used: HashMap<u128, FirstUse>,
    queue: VecDeque<(Duration, u128)>,
}

impl KeyLedger {
    /// Removes every key that is `ttl` old or older. `now` never decreases.
    pub(super) fn evict(&mut self, now: Duration, ttl: Duration) {
        while let Some((used_at, key)) = self.queue.front() {
            if now.saturating_sub(*used_at) < ttl {
                break;
            }
            self.used.remove(key);
            self.queue.pop_front();
        }
    }

    /// What the key was used for; `None` if it is unused or evicted.
    pub(super) fn first_use(&self, key: u128) -> Option<FirstUse> {
        self.used.get(&key).copied()
    }

    pub(super) fn insert(&mut self, now: Duration, key: u128, first_use: FirstUse) {
        if self.used.insert(key, first_use).is_none() {
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
            ledger.insert(now, u128::from(second), FirstUse::Duplicate);
            assert!(ledger.queue.len() <= 300, "second {second}");
            assert_eq!(ledger.queue.len(), ledger.used.len(), "second {second}");
        }
    }
}
