//! Known keys: for which data this worker has received each idempotency key.
//!
//! An upstream that gives two persons one `idempotencyKey` would get one user for both, or an error that explains
//! nothing. So the later job is refused, as in a file. The embedded queue finds the earlier job on its own; RabbitMQ
//! can't, so this memory is all that there is.
//!
//! In memory and bounded: another worker, or one that restarts, doesn't know the key.

use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::domain::Job;
use crate::pipeline::guards::bounded_map::BoundedMap;

/// Most keys that are remembered, those that came last. About 5.5 MB. docs/contract.md states it.
const KEYS_MAX: usize = 100_000;

#[derive(Debug)]
pub(crate) struct KnownKeys(Mutex<BoundedMap<Uuid, u64>>);

impl Default for KnownKeys {
    fn default() -> Self {
        Self(Mutex::new(BoundedMap::new(KEYS_MAX)))
    }
}

impl KnownKeys {
    /// Remembers the job's key. Returns whether it is known for other data.
    pub(crate) fn is_used_for_other_data(&self, job: &Job) -> bool {
        let (key, content) = (*job.key.uuid(), job.content_key.uuid().as_u64_pair().1);
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.get(&key) {
            Some(known) => *known != content,
            None => {
                keys.insert(key, content);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Identity;
    use crate::domain::{IdempotencyKey, Job};

    /// A job with these data, and with its own or the derived key.
    fn job(key: Option<u128>, data: &str) -> Job {
        let content_key = IdempotencyKey::of_canonical(data.as_bytes());
        let key = key.map_or(content_key, |key| IdempotencyKey::from_bytes(Uuid::from_u128(key).into_bytes()));
        let email = "jane@example.com".to_owned();
        Job { identity: Identity::default(), key, content_key, email, body: data.to_owned().into() }
    }

    #[test]
    fn a_key_is_refused_for_other_data_and_accepted_for_the_same() {
        let keys = KnownKeys::default();
        assert!(!keys.is_used_for_other_data(&job(Some(1), "jane")));
        assert!(!keys.is_used_for_other_data(&job(Some(1), "jane")));
        assert!(keys.is_used_for_other_data(&job(Some(1), "joe")));
        assert!(!keys.is_used_for_other_data(&job(Some(1), "jane")), "the first job's data count");
        let derived = job(None, "ann");
        assert!(!keys.is_used_for_other_data(&derived));
        assert!(keys.is_used_for_other_data(&job(Some(derived.key.uuid().as_u128()), "joe")));
    }

    #[test]
    fn the_keys_that_came_last_are_remembered() {
        let keys = KnownKeys::default();
        for key in 0..=KEYS_MAX as u128 {
            assert!(!keys.is_used_for_other_data(&job(Some(key), "jane")));
        }
        assert!(!keys.is_used_for_other_data(&job(Some(0), "joe")), "forgotten");
        assert!(keys.is_used_for_other_data(&job(Some(KEYS_MAX as u128), "joe")));
        assert_eq!(keys.0.lock().unwrap().len(), KEYS_MAX);
    }
}
