//! Remembers hashes in constant memory: finds rows that repeat an earlier row in part.

/// Buckets of the table, a power of two.
const BUCKETS: usize = 1 << 20;

/// Hashes of a bucket. The table holds 4,194,304 hashes in 16 MiB; of a small file most of it is never touched.
const SLOTS: usize = 4;

/// A set of hashes that forgets none while there is room in their buckets.
pub(super) struct SeenHashes {
    buckets: Vec<[u32; SLOTS]>,
}

impl SeenHashes {
    pub(super) fn new() -> Self {
        Self { buckets: vec![[0; SLOTS]; BUCKETS] }
    }

    /// Adds a hash and returns whether it was there. Two values are taken for one with a chance of about one in a
    /// billion a row.
    pub(super) fn replace(&mut self, hash: u64) -> bool {
        let bucket = &mut self.buckets[hash as usize % BUCKETS];
        // 0 marks a free slot.
        let mark = (hash >> 32) as u32 | 1;
        for slot in bucket {
            if *slot == mark {
                return true;
            }
            if *slot == 0 {
                *slot = mark;
                return false;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_seen_the_second_time() {
        let mut seen = SeenHashes::new();
        let hash = |row: u64| row.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let first = (1..200_000).filter(|row| seen.replace(hash(*row))).count();
        let second = (1..200_000).filter(|row| seen.replace(hash(*row))).count();
        assert_eq!((first, second), (0, 199_999));
    }
}
