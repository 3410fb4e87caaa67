//! The users that sweeps have seen, so that the next question about one of them needs no request.
//!
//! Only presence is remembered. That somebody was missing says nothing about now. For a million users it must stay
//! small: per user there are 8 bytes in memory (half a hash, and a place), and everything else is in a temporary file
//! that has no name and vanishes with the process; emails are in neither. Small lists don't get as far as the file. It
//! is read and written in place: those are microseconds on the page cache, for each page of users that took a request.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use tempfile::SpooledTempFile;
use tokio::time::Instant;

use crate::domain::decide::FoundUser;
use crate::domain::{NameMark, Timestamp};
use crate::pipeline::user_lookup::Digest;

/// Most users that are remembered; further ones are looked up. Bounds memory, at 8 bytes each.
const USERS_MAX: usize = 2_000_000;

/// From here on the records are in a file.
const IN_MEMORY_BYTES_MAX: usize = 1024 * 1024;

/// Records begin at multiples of this, so that 32 bits reach far enough.
const ALIGNMENT: usize = 16;

/// Longest service id that is remembered.
const ID_BYTES_MAX: usize = 255;

/// Stands for a time that the list doesn't say.
const NO_TIME: i64 = i64::MIN;

/// Half a hash, and where the record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    hash: u32,
    place: u32,
}

/// See the module.
pub(super) struct Cache {
    keep_for: Duration,
    /// When the oldest of it was read.
    since: Option<Instant>,
    index: Vec<Entry>,
    /// So many entries are in order and their records written.
    settled: usize,
    records: SpooledTempFile,
    written: u64,
    pending: Vec<u8>,
}

impl Cache {
    /// An empty cache that forgets everything after so long. Zero: it remembers nothing.
    pub(super) fn new(keep_for: Duration) -> Self {
        Self {
            keep_for,
            since: None,
            index: Vec::new(),
            settled: 0,
            records: SpooledTempFile::new(IN_MEMORY_BYTES_MAX),
            written: 0,
            pending: Vec::new(),
        }
    }

    /// How many users it knows.
    pub(super) const fn len(&self) -> usize {
        self.index.len()
    }

    /// A user that was seen before the last [`Self::settle`].
    ///
    /// # Errors
    /// The temporary file can't be used.
    pub(super) fn find(&mut self, digest: &Digest) -> io::Result<Option<FoundUser>> {
        self.forget_if_old();
        let settled = &self.index[..self.settled];
        let hash = digest.half();
        let first = settled.partition_point(|entry| entry.hash < hash);
        let places: Vec<u32> =
            settled[first..].iter().take_while(|entry| entry.hash == hash).map(|entry| entry.place).collect();
        for place in places {
            let (of, user) = self.read(place)?;
            if of == *digest {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }

    /// There will be about so many users.
    pub(super) fn expect(&mut self, users: u64) {
        let users = usize::try_from(users).unwrap_or(USERS_MAX).min(USERS_MAX);
        if !self.keep_for.is_zero() {
            self.index.reserve_exact(users.saturating_sub(self.index.len()));
        }
    }

    /// Remembers a user.
    ///
    /// # Errors
    /// The temporary file can't be used.
    pub(super) fn insert(&mut self, digest: &Digest, user: &FoundUser) -> io::Result<()> {
        let id = user.service_id.as_bytes();
        if self.keep_for.is_zero() || id.len() > ID_BYTES_MAX || self.find(digest)?.is_some() {
            return Ok(());
        }
        let place = (self.written as usize + self.pending.len()) / ALIGNMENT;
        let (Ok(place), true) = (u32::try_from(place), self.index.len() < USERS_MAX) else { return Ok(()) };
        self.since.get_or_insert_with(Instant::now);
        self.index.push(Entry { hash: digest.half(), place });
        self.pending.extend(digest.0);
        self.pending.extend(user.created_at.map_or(NO_TIME, Timestamp::unix_ms).to_le_bytes());
        self.pending.extend(NameMark::to_bits(user.name).to_le_bytes());
        self.pending.push(id.len() as u8);
        self.pending.extend(id);
        self.pending.resize(self.pending.len().next_multiple_of(ALIGNMENT), 0);
        Ok(())
    }

    /// Writes down what was inserted. To be called after each page.
    ///
    /// # Errors
    /// The temporary file can't be used.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.records.seek(SeekFrom::Start(self.written))?;
        self.records.write_all(&self.pending)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// From here on everybody who was written down can be found.
    pub(super) fn settle(&mut self) {
        self.index.sort_unstable();
        self.settled = self.index.len();
    }

    fn forget_if_old(&mut self) {
        // Not in the middle of a sweep, whose users would be forgotten too.
        if self.settled == self.index.len() && self.since.is_some_and(|since| since.elapsed() > self.keep_for) {
            *self = Self::new(self.keep_for);
        }
    }

    fn read(&mut self, place: u32) -> io::Result<(Digest, FoundUser)> {
        let (mut digest, mut created_at, mut name, mut length) = ([0; 16], [0; 8], [0; 8], [0; 1]);
        self.records.seek(SeekFrom::Start(u64::from(place) * ALIGNMENT as u64))?;
        let mut record = Vec::with_capacity(64);
        (&mut self.records).take(33 + ID_BYTES_MAX as u64).read_to_end(&mut record)?;
        let mut record = record.as_slice();
        record.read_exact(&mut digest)?;
        record.read_exact(&mut created_at)?;
        record.read_exact(&mut name)?;
        record.read_exact(&mut length)?;
        let mut id = vec![0; usize::from(length[0])];
        record.read_exact(&mut id)?;
        let created_at = i64::from_le_bytes(created_at);
        let user = FoundUser {
            service_id: String::from_utf8(id).map_err(io::Error::other)?,
            created_at: (created_at != NO_TIME).then(|| Timestamp::from_unix_ms(created_at)),
            name: NameMark::from_bits(u64::from_le_bytes(name)),
        };
        Ok((Digest(digest), user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u32) -> FoundUser {
        let created_at = n.is_multiple_of(2).then(|| Timestamp::from_unix_ms(i64::from(n)));
        let name = NameMark::of(if n.is_multiple_of(3) { "Ann" } else { "*" }, "Lee");
        FoundUser { service_id: format!("acme-user-{n:018}"), created_at, name }
    }

    fn digest(n: u32) -> Digest {
        Digest::of(&format!("p{n}@example.com"))
    }

    fn filled(count: u32) -> Cache {
        let mut cache = Cache::new(Duration::from_secs(60));
        cache.expect(u64::from(count));
        for n in 0..count {
            cache.insert(&digest(n), &user(n)).unwrap();
            if n % 50 == 49 {
                cache.write().unwrap();
            }
        }
        cache.write().unwrap();
        cache.settle();
        cache
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_who_was_seen_is_found_and_nobody_else() {
        let mut cache = filled(20_000);
        for n in (0..20_000).step_by(37) {
            assert_eq!(cache.find(&digest(n)).unwrap(), Some(user(n)));
        }
        for n in 20_000..21_000 {
            assert_eq!(cache.find(&digest(n)).unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn eight_bytes_of_memory_a_user_are_enough() {
        let cache = filled(50_000);
        assert_eq!(cache.index.capacity() * size_of::<Entry>(), 50_000 * 8);
        assert!(cache.records.is_rolled() && cache.pending.capacity() < 16_384);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_seen_again_takes_no_more_room() {
        let mut cache = filled(100);
        for n in 0..100 {
            cache.insert(&digest(n), &user(n)).unwrap();
        }
        assert_eq!(cache.len(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_forgotten_when_its_time_is_over() {
        let mut cache = filled(100);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(cache.find(&digest(1)).unwrap(), None);
        assert_eq!(cache.len(), 0);
        let mut off = Cache::new(Duration::ZERO);
        off.insert(&digest(1), &user(1)).unwrap();
        off.settle();
        assert_eq!(off.find(&digest(1)).unwrap(), None);
    }
}
