//! Jobs that alone are answered like the whole account, again and again, while others fare well.
//!
//! A firewall that dislikes one row answers 403 to it for ever, which looks like a suspended account. Such a job is set
//! aside for a while, and after some rounds it is given up: then it is the row that is at fault. The count is kept in
//! memory only; a restart gives such a job new rounds.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// Rounds after which the job is given up.
pub const ROUNDS_MAX: u32 = 3;

/// Most jobs that are remembered. Where there are more, it isn't one row that is disliked; they only wait longer.
const JOBS_MAX: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub struct SingledOut(Mutex<HashMap<Uuid, u32>>);

impl SingledOut {
    /// Notes that the job is set aside once more. How often it has been, this time included.
    pub fn set_aside(&self, key: Uuid) -> u32 {
        let mut rounds = self.lock();
        if rounds.len() >= JOBS_MAX && !rounds.contains_key(&key) {
            return 1;
        }
        let count = rounds.entry(key).or_default();
        *count += 1;
        *count
    }

    /// Whether it was set aside before.
    pub fn contains(&self, key: Uuid) -> bool {
        self.lock().contains_key(&key)
    }

    /// The job is over.
    pub fn forget(&self, key: Uuid) {
        self.lock().remove(&key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
