//! Users that scans have read in the last hour, so that a look-up of one of them needs no request.
//!
//! Only presence is remembered: a user who was missing may have been created since.
//!
//! **Invariant:** holds at most [`USERS_MAX`] users; the one that was read first is dropped first.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::digest::EmailDigest;
use crate::domain::decide::FoundUser;

/// Most users that are remembered; a look-up of another one costs a scan. Bounds memory: about 180 bytes a user with a
/// service id of 32 bytes, 36 MB in all (measured), and 94 MB if every service id has [`ID_BYTES_MAX`] bytes. The
/// deployments' limit is 256 MiB.
const USERS_MAX: usize = 200_000;

/// Longest service id that is remembered.
const ID_BYTES_MAX: usize = 255;

/// How long a user is remembered. Long enough for all jobs of an interrupted batch, which come back within minutes;
/// short enough that a user whom the partner deletes isn't reported as existing for long.
const KEPT_FOR: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
struct CachedUser {
    user: FoundUser,
    read_at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct UserCache {
    users: HashMap<EmailDigest, CachedUser>,
    /// The same users, the one that was read first in front.
    order: VecDeque<EmailDigest>,
}

impl UserCache {
    /// Returns the number of users.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// Returns a user that was read within the last hour.
    pub(super) fn find(&mut self, digest: &EmailDigest) -> Option<FoundUser> {
        self.drop_expired();
        self.users.get(digest).map(|cached| cached.user.clone())
    }

    /// Adds a user that was read now. A user that is known is replaced, and expires as if it hadn't been read again.
    pub(super) fn insert(&mut self, digest: EmailDigest, user: FoundUser) {
        if user.service_id.as_str().len() > ID_BYTES_MAX {
            return;
        }
        if let Some(cached) = self.users.get_mut(&digest) {
            cached.user = user;
            return;
        }
        self.drop_expired();
        if self.users.len() >= USERS_MAX {
            self.drop_first();
        }
        self.users.insert(digest, CachedUser { user, read_at: Instant::now() });
        self.order.push_back(digest);
    }

    fn drop_expired(&mut self) {
        while let Some(first) = self.order.front()
            && self.users.get(first).is_none_or(|cached| cached.read_at.elapsed() > KEPT_FOR)
        {
            self.drop_first();
        }
        if self.order.is_empty() {
            // Frees the memory.
            *self = Self::default();
        }
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.order.pop_front() {
            self.users.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{NameMark, ServiceId, Timestamp};

    fn user(n: usize) -> FoundUser {
        let created_at = n.is_multiple_of(2).then(|| Timestamp::from_unix_ms(1_700_000_000_000));
        let name = NameMark::of(if n.is_multiple_of(3) { "Ann" } else { "*" }, "Lee");
        FoundUser { service_id: ServiceId::parse(&format!("acme-user-{n:018}")).unwrap(), created_at, name }
    }

    fn digest(n: usize) -> EmailDigest {
        EmailDigest::numbered(n as u128)
    }

    fn filled(count: usize) -> UserCache {
        let mut cache = UserCache::default();
        (0..count).for_each(|n| cache.insert(digest(n), user(n)));
        cache
    }

    #[tokio::test(start_paused = true)]
    async fn every_user_that_was_read_is_found_and_no_other() {
        let mut cache = filled(1_000);
        for n in 0..1_000 {
            assert_eq!(cache.find(&digest(n)), Some(user(n)));
        }
        for n in 1_000..2_000 {
            assert_eq!(cache.find(&digest(n)), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_cache_drops_the_user_that_was_read_first() {
        let mut cache = filled(USERS_MAX + 10);
        assert_eq!((cache.len(), cache.order.len()), (USERS_MAX, USERS_MAX));
        assert_eq!((cache.find(&digest(9)), cache.find(&digest(10))), (None, Some(user(10))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_that_is_read_again_is_replaced_and_keeps_its_age() {
        let mut cache = filled(100);
        tokio::time::advance(KEPT_FOR / 2).await;
        cache.insert(digest(1), user(500));
        cache.insert(digest(200), user(200));
        assert_eq!((cache.len(), cache.find(&digest(1))), (101, Some(user(500))));
        tokio::time::advance(KEPT_FOR / 2 + Duration::from_secs(1)).await;
        assert_eq!((cache.find(&digest(1)), cache.find(&digest(200))), (None, Some(user(200))));
    }

    #[tokio::test(start_paused = true)]
    async fn users_are_forgotten_after_an_hour() {
        let mut cache = filled(100);
        tokio::time::advance(KEPT_FOR + Duration::from_secs(1)).await;
        assert_eq!(cache.find(&digest(1)), None);
        assert_eq!((cache.len(), cache.users.capacity()), (0, 0), "the memory is freed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_with_an_overlong_service_id_is_not_remembered() {
        let mut cache = UserCache::default();
        let service_id = ServiceId::parse(&"é".repeat(ID_BYTES_MAX)).unwrap();
        cache.insert(digest(1), FoundUser { service_id, ..user(1) });
        assert_eq!(cache.find(&digest(1)), None);
    }
}
