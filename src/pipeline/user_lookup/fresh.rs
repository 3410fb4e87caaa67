//! Fresh looks: what the user list says right now about the user of a re-creation.
//!
//! A user is deleted only by what a page says that was requested a few seconds before. So nothing that an earlier scan has
//! read is used, except where in the list the user was: its page is read first, then both ends of the list, where new users
//! appear, and then the whole list.
//!
//! **Invariant:** one fresh look at a time. Memory is bounded: 16 bytes for each of at most [`POSITIONS_MAX`] users.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::coverage::ScanCoverage;
use super::digest::EmailDigest;
use super::page_limit::DOCUMENTED_LIMIT;
use super::page_reader::{PageReader, read_page};
use super::pending::PendingLookUps;
use crate::domain::ServiceId;
use crate::domain::decide::ReplaceLookUp;
use crate::pipeline::Context;
use crate::ports::{PartnerApi, UserList, UserListPage};

/// Most users whose positions are remembered.
const POSITIONS_MAX: usize = 200_000;

/// How many users may be created while the list is read, beyond as many as it had at first.
const NEWCOMERS_MAX: u64 = 1_000;

/// Most deleted users that are remembered, so that the cache of scans doesn't report them.
const DELETED_MAX: usize = 4_096;

/// How far a fresh look reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FreshScope {
    /// The likely places only. A user may be missing although it is listed.
    LikelyPlaces,
    /// The whole list, until a user is found.
    WholeList,
}

/// What a fresh look has found.
#[derive(Debug)]
pub(crate) struct FreshLook {
    pub(crate) found: ReplaceLookUp,
    /// When the page was requested that says it.
    pub(crate) requested_at: Instant,
}

/// What fresh looks remember between them.
#[derive(Default)]
pub(super) struct FreshReader(Mutex<FreshState>);

#[derive(Default)]
struct FreshState {
    reader: PageReader,
    /// By hash of the service id.
    positions: HashMap<u64, u64>,
    /// Difference between the position of the user that was found last and the remembered one: deletions move the users
    /// behind them.
    drift: i64,
    /// Users on the last full page.
    page_users: Option<u64>,
    /// Users in the list, by the last page.
    total: u64,
}

/// Users that this worker deleted.
#[derive(Default)]
pub(super) struct DeletedUsers {
    ids: HashSet<u64>,
    order: VecDeque<u64>,
}

impl DeletedUsers {
    pub(super) fn contains(&self, user: &ServiceId) -> bool {
        self.ids.contains(&hash(user))
    }

    pub(super) fn insert(&mut self, user: &ServiceId) {
        if !self.ids.insert(hash(user)) {
            return;
        }
        self.order.push_back(hash(user));
        if self.order.len() > DELETED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// The user that is looked for.
struct Wanted<'w> {
    digest: EmailDigest,
    replaced: &'w ServiceId,
    /// The user to replace was read with another email.
    has_other_email: bool,
}

/// A page that was read.
struct FreshPage {
    page: UserListPage,
    digests: Vec<EmailDigest>,
    requested_at: Instant,
}

impl FreshPage {
    fn len(&self) -> u64 {
        self.page.users.len() as u64 + self.page.unusable
    }
}

/// Looks for the user to replace, and for any other user with this email.
pub(crate) async fn find_fresh<A: PartnerApi + UserList>(
    context: &Context<A>,
    email: &str,
    replaced: &ServiceId,
    scope: FreshScope,
) -> FreshLook {
    let mut wanted = Wanted { digest: EmailDigest::of(email), replaced, has_other_email: false };
    let state = &mut *context.look_up.fresh.0.lock().await;
    match look(context, state, &mut wanted, scope).await {
        Ok(look) => look,
        Err(_) => FreshLook { found: ReplaceLookUp::Unavailable, requested_at: Instant::now() },
    }
}

async fn look<A: PartnerApi + UserList>(
    context: &Context<A>,
    state: &mut FreshState,
    wanted: &mut Wanted<'_>,
    scope: FreshScope,
) -> Result<FreshLook, &'static str> {
    let half_page = state.page_users.unwrap_or(u64::from(DOCUMENTED_LIMIT)) / 2;
    if let Some(position) = state.positions.get(&hash(wanted.replaced)) {
        let skip = position.saturating_add_signed(state.drift).saturating_sub(half_page);
        let page = read(context, state, skip).await?;
        if let Some(found) = wanted.find_on(&page) {
            return Ok(found);
        }
    }
    let page = read(context, state, 0).await?;
    if let Some(found) = wanted.find_on(&page) {
        return Ok(found);
    }
    if state.total > page.len() && page.len() > 0 {
        let page = read(context, state, state.total - page.len()).await?;
        if let Some(found) = wanted.find_on(&page) {
            return Ok(found);
        }
    }
    match scope {
        FreshScope::LikelyPlaces => Ok(wanted.not_found()),
        FreshScope::WholeList => read_all(context, state, wanted).await,
    }
}

/// Reads the list from the start, until a user is found.
///
/// # Errors
/// A page can't be read, or the list changed so that it isn't known whether every user was read.
async fn read_all<A: PartnerApi + UserList>(
    context: &Context<A>,
    state: &mut FreshState,
    wanted: &mut Wanted<'_>,
) -> Result<FreshLook, &'static str> {
    let (mut coverage, mut skip, mut is_whole) = (ScanCoverage::default(), 0, Ok(()));
    let mut total_first = None;
    loop {
        let page = read(context, state, skip).await?;
        if let Some(found) = wanted.find_on(&page) {
            return Ok(found);
        }
        // Other deletions shrink the list. Then the user can still be found, but isn't known to be missing.
        if is_whole.is_ok() {
            is_whole = coverage.record_page(&page.digests, page.page.unusable, page.page.total);
        }
        skip += page.len();
        let total_first = *total_first.get_or_insert(page.page.total);
        if skip > total_first.saturating_mul(2).saturating_add(NEWCOMERS_MAX) {
            return Err("the list grows as fast as it is read");
        }
        if page.len() == 0 || skip >= page.page.total {
            is_whole.and_then(|()| coverage.check_whole())?;
            return Ok(wanted.not_found());
        }
    }
}

async fn read<A: PartnerApi + UserList>(
    context: &Context<A>,
    state: &mut FreshState,
    skip: u64,
) -> Result<FreshPage, &'static str> {
    let requested_at = Instant::now();
    // No scan waits for this page.
    let page = read_page(context, skip, &PendingLookUps::default(), &mut state.reader).await?;
    let digests = page.users.iter().map(|(email, _)| EmailDigest::of(email)).collect();
    let page = FreshPage { page, digests, requested_at };
    state.remember(skip, &page);
    Ok(page)
}

impl FreshState {
    fn remember(&mut self, skip: u64, page: &FreshPage) {
        self.total = page.page.total;
        if skip + page.len() < self.total {
            self.page_users = Some(page.len());
        }
        for (n, (_, user)) in page.page.users.iter().enumerate() {
            let (id, position) = (hash(&user.service_id), skip + n as u64);
            let known = self.positions.insert(id, position);
            if let Some(known) = known {
                self.drift = position.wrapping_sub(known).cast_signed();
            } else if self.positions.len() > POSITIONS_MAX {
                self.positions.remove(&id);
            }
        }
    }
}

impl Wanted<'_> {
    fn find_on(&mut self, page: &FreshPage) -> Option<FreshLook> {
        let FreshPage { page, digests, requested_at } = page;
        let rows = || digests.iter().zip(&page.users).enumerate();
        let is_replaced = |user: &ServiceId| user == self.replaced;
        let other = rows().find(|(_, (digest, (_, user)))| **digest == self.digest && !is_replaced(&user.service_id));
        if let Some((_, (_, (_, user)))) = other {
            let found = ReplaceLookUp::Other { user: user.clone(), is_foreign: false };
            return Some(FreshLook { found, requested_at: *requested_at });
        }
        let (row, (digest, _)) = rows().find(|(_, (_, (_, user)))| is_replaced(&user.service_id))?;
        if *digest != self.digest {
            self.has_other_email = true;
            return None;
        }
        let found = ReplaceLookUp::Replaced(page.statuses.get(row).cloned().flatten());
        Some(FreshLook { found, requested_at: *requested_at })
    }

    fn not_found(&self) -> FreshLook {
        let found = if self.has_other_email { ReplaceLookUp::OtherEmail } else { ReplaceLookUp::Neither };
        FreshLook { found, requested_at: Instant::now() }
    }
}

fn hash(user: &ServiceId) -> u64 {
    let mut hasher = DefaultHasher::new();
    user.as_str().hash(&mut hasher);
    hasher.finish()
}
