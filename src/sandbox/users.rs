//! The partner's users: one per email, never removed.
//!
//! A user takes about 140 bytes: one block of text, a small record, and 24 bytes in the email index. Ids and timestamps
//! are computed from the position when they are needed. The time for a page depends on its length only, except where
//! the list is shuffled.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::domain::Timestamp;
use crate::sandbox::ids::Ids;
use crate::sandbox::model_config::{ListOrder, ModelConfig};
use crate::sandbox::new_user::{NewUser, SandboxProgram};

/// A user in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserView<'a> {
    /// `{slug}-user-{uid}`.
    pub service_id: String,
    /// The email as it was sent.
    pub email: &'a str,
    /// The first name.
    pub first_name: &'a str,
    /// The last name, with its staging keyword if it has one.
    pub last_name: &'a str,
    /// The KYC status: `pending_kyc`, `approved`, `denied` or `needs_verification`.
    pub status: &'static str,
    /// The card program.
    pub program: SandboxProgram,
    /// RFC 3339, UTC, with milliseconds; `None` if the list has no `createdAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// The link in the answer to the creation. The list doesn't have it; tests compare it.
    #[serde(skip)]
    pub verification_url: String,
}

/// 128 bits of SHA-256 of the lower-case email. A collision of two emails is expected after about 2^64 users.
type EmailHash = [u8; 16];

#[derive(Debug)]
struct UserRecord {
    /// Email, first name and last name, one after the other.
    text: Box<str>,
    email_end: u16,
    first_name_end: u16,
    program: SandboxProgram,
    outcome: KycOutcome,
    created_at: Duration,
}

#[derive(Clone, Copy, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
enum KycOutcome {
    #[strum(serialize = "pending_kyc")]
    Undecided,
    Approved,
    Denied,
    NeedsVerification,
}

impl KycOutcome {
    /// The documented staging keywords: case-sensitive, at the end of `lastName`.
    fn of_last_name(last_name: &str) -> Self {
        if last_name.ends_with("Approved") {
            Self::Approved
        } else if last_name.ends_with("Denied") {
            Self::Denied
        } else if last_name.ends_with("needsVerification") {
            Self::NeedsVerification
        } else {
            Self::Undecided
        }
    }

    fn status(self) -> &'static str {
        self.into_str()
    }
}

#[derive(Debug, Default)]
pub(super) struct Users {
    records: Vec<UserRecord>,
    by_email: HashMap<EmailHash, usize>,
}

impl Users {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Adds a user and returns its position; `None` if its email is taken, without regard to case.
    pub(super) fn insert(&mut self, now: Duration, user: &NewUser<'_>) -> Option<usize> {
        use std::collections::hash_map::Entry;
        let position = self.records.len();
        let Entry::Vacant(vacant) = self.by_email.entry(email_hash(user.email)) else {
            return None;
        };
        vacant.insert(position);
        self.records.push(UserRecord::new(now, user));
        Some(position)
    }

    /// The position of the user with this email, without regard to case.
    pub(super) fn find(&self, email: &str) -> Option<usize> {
        self.by_email.get(&email_hash(email)).copied()
    }

    /// The number of users that were created at least `lag` before `now`: these have the first positions.
    pub(super) fn created_by(&self, now: Duration, lag: Duration) -> usize {
        self.records.partition_point(|record| record.created_at + lag <= now)
    }

    /// The positions on a page of the first `total` users. `shuffle` is the seed of a shuffled order.
    pub(super) fn page(total: usize, order: ListOrder, skip: u64, limit: u32, shuffle: u64) -> Vec<usize> {
        let start = usize::try_from(skip).unwrap_or(usize::MAX).min(total);
        let end = start.saturating_add(limit as usize).min(total);
        match order {
            ListOrder::OldestFirst => (start..end).collect(),
            ListOrder::NewestFirst => (start..end).map(|nth| total - 1 - nth).collect(),
            ListOrder::Shuffled => {
                let mut positions: Vec<usize> = (0..total).collect();
                fastrand::Rng::with_seed(shuffle).shuffle(&mut positions);
                positions[start..end].to_vec()
            }
        }
    }

    /// The user at a position, as of `now`; `None` if the position doesn't exist.
    pub(super) fn view(
        &self,
        position: usize,
        now: Duration,
        epoch: Timestamp,
        config: &ModelConfig,
    ) -> Option<UserView<'_>> {
        let record = self.records.get(position)?;
        let ids = Ids::new(config.seed);
        let decided = now.saturating_sub(record.created_at) >= config.kyc_after;
        let outcome = if decided { record.outcome } else { KycOutcome::Undecided };
        let (email, names) = record.text.split_at(usize::from(record.email_end));
        let (first_name, last_name) = names.split_at(usize::from(record.first_name_end - record.email_end));
        Some(UserView {
            service_id: ids.service_id(&config.slug, position),
            email,
            first_name,
            last_name,
            status: outcome.status(),
            program: record.program,
            created_at: config.shows_created_at.then(|| config.clock(epoch, record.created_at).to_string()),
            verification_url: ids.verification_url(position),
        })
    }
}

impl UserRecord {
    fn new(now: Duration, user: &NewUser<'_>) -> Self {
        let text = [user.email, user.first_name, user.last_name].concat();
        // The field rules limit an email to 254 bytes and a name to 100 characters, which are at most 400 bytes.
        let end = |bytes: usize| u16::try_from(bytes).expect("the field rules limit the text");
        Self {
            email_end: end(user.email.len()),
            first_name_end: end(user.email.len() + user.first_name.len()),
            text: text.into_boxed_str(),
            program: user.program,
            outcome: KycOutcome::of_last_name(user.last_name),
            created_at: now,
        }
    }
}

fn email_hash(email: &str) -> EmailHash {
    let hash: [u8; 32] = Sha256::digest(email.to_lowercase()).into();
    let mut digest = EmailHash::default();
    digest.copy_from_slice(&hash[..16]);
    digest
}
