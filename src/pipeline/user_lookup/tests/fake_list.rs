//! A list of users in some order, which grows while it is read.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;

use super::{LookUpBench, SECOND, email, user};
use crate::domain::Timestamp;
use crate::domain::decide::{LookUpResult, LookUpScope};
use crate::pipeline::rate::rate_limiter::RateLimiter;
use crate::pipeline::user_lookup::digest::EmailDigest;
use crate::ports::{ListError, UserListPage};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FakeOrder {
    Newest,
    Oldest,
    /// Another one at each request.
    Shuffled,
    /// Random, and always the same.
    Scattered,
    /// One group after the other, each sorted from the newest.
    NewestInGroups,
    /// One group after the other, each sorted from the oldest.
    OldestInGroups,
}

impl FakeOrder {
    pub(super) const ALL: [Self; 6] =
        [Self::Newest, Self::Oldest, Self::Shuffled, Self::Scattered, Self::NewestInGroups, Self::OldestInGroups];
}

#[derive(Debug, Clone, Copy)]
pub(super) struct FakeUser {
    pub(super) n: u64,
    pub(super) created_at: Timestamp,
    /// When it appears in the list.
    pub(super) listed_at: Instant,
    group: u8,
    place: u64,
}

pub(super) struct FakeList {
    pub(super) order: FakeOrder,
    pub(super) users: Vec<FakeUser>,
    /// Most users on a page; a larger limit is lowered.
    pub(super) cap: usize,
    /// A larger limit is refused.
    pub(super) limit_max: u32,
    /// Users that are created before each page.
    pub(super) grows: u64,
    pub(super) requests: u32,
    began: Instant,
    rng: fastrand::Rng,
}

/// Time of the first user.
const T0: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

/// Users are older than the test by this much, and one minute apart.
const HISTORY_MINUTES: u64 = 1_000_000;

impl FakeList {
    /// A list of `p0` to `p{count - 1}`, one minute apart.
    pub(super) fn new(order: FakeOrder, count: u64, seed: u64) -> Self {
        let (began, rng) = (Instant::now(), fastrand::Rng::with_seed(seed));
        let (users, limit_max) = (Vec::new(), u32::MAX);
        let mut list = Self { order, users, cap: 100, limit_max, grows: 0, requests: 0, began, rng };
        for n in 0..count {
            let created_at = T0.plus(SECOND * 60 * u32::try_from(HISTORY_MINUTES - count + n).unwrap());
            list.add(created_at, began);
        }
        list
    }

    /// The time now, by the clock of the list.
    pub(super) fn now(&self) -> Timestamp {
        T0.plus(SECOND * 60 * u32::try_from(HISTORY_MINUTES).unwrap()).plus(self.began.elapsed())
    }

    fn add(&mut self, created_at: Timestamp, listed_at: Instant) {
        let (n, group, place) = (self.users.len() as u64, self.rng.u8(0..3), self.rng.u64(..));
        self.users.push(FakeUser { n, created_at, listed_at, group, place });
    }

    /// Creates a user now, and returns its number.
    pub(super) fn create(&mut self, lag: std::time::Duration) -> u64 {
        self.add(self.now(), Instant::now() + lag);
        self.users.len() as u64 - 1
    }

    fn page(&mut self, skip: u64, limit: u32) -> Result<UserListPage, ListError> {
        self.requests += 1;
        if limit > self.limit_max {
            return Err(ListError::Refused);
        }
        (0..self.grows).for_each(|_| _ = self.create(std::time::Duration::ZERO));
        let mut listed: Vec<FakeUser> =
            self.users.iter().filter(|user| user.listed_at <= Instant::now()).copied().collect();
        match self.order {
            FakeOrder::Newest => listed.reverse(),
            FakeOrder::Oldest => {}
            FakeOrder::Shuffled => self.rng.shuffle(&mut listed),
            FakeOrder::Scattered => listed.sort_by_key(|user| user.place),
            FakeOrder::NewestInGroups => listed.sort_by_key(|user| (user.group, u64::MAX - user.n)),
            FakeOrder::OldestInGroups => listed.sort_by_key(|user| (user.group, user.n)),
        }
        let total = listed.len() as u64;
        let rows = listed.into_iter().skip(usize::try_from(skip).unwrap()).take(self.cap.min(limit as usize));
        let users = rows.map(|row| {
            let (email, found) = user(row.n);
            (email, crate::domain::decide::FoundUser { created_at: Some(row.created_at), ..found })
        });
        Ok(UserListPage { users: users.collect(), statuses: Vec::new(), unusable: 0, total })
    }
}

/// A look-up bench over a list that the test can change.
pub(super) struct FakeBench {
    pub(super) bench: LookUpBench,
    list: Arc<Mutex<FakeList>>,
}

impl FakeBench {
    pub(super) fn new(list: FakeList) -> Self {
        let list = Arc::new(Mutex::new(list));
        let shared = Arc::clone(&list);
        let bench =
            LookUpBench::with(RateLimiter::new(None), move |skip, limit, _| shared.lock().unwrap().page(skip, limit));
        Self { bench, list }
    }

    pub(super) fn list(&self) -> MutexGuard<'_, FakeList> {
        self.list.lock().unwrap()
    }

    /// Creates users who are in the list at once. Returns the number of the last.
    pub(super) fn create(&self, count: u64) -> u64 {
        let mut list = self.list();
        (0..count).map(|_| list.create(std::time::Duration::ZERO)).last().unwrap()
    }

    pub(super) async fn look_up(&self, n: u64, scope: LookUpScope) -> LookUpResult {
        self.bench.context.look_up.find(&email(n), Instant::now(), scope).await
    }

    /// Looks up a user who was created less than a minute ago. Returns the number of requests, and whether it was
    /// found.
    pub(super) async fn look_up_young(&self, n: u64) -> (u32, bool) {
        let now = self.list().now();
        let before = self.list().requests;
        let scope = LookUpScope::CreatedAfter(now.minus(SECOND * 60));
        let is_found = matches!(self.look_up(n, scope).await, LookUpResult::User(_));
        (self.list().requests - before, is_found)
    }

    pub(super) fn forget_users(&self) {
        self.bench.context.look_up.lock().cache = Default::default();
    }

    /// Returns whether the cache has the user.
    pub(super) fn is_cached(&self, n: u64) -> bool {
        self.bench.context.look_up.lock().cache.find(&EmailDigest::of(&email(n))).is_some()
    }
}
