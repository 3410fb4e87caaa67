//! The partner's users: one per email. A deleted user leaves the list and frees its email.
//!
//! A user takes about 190 bytes: one block of text, a small record, and 24 bytes in the email index. Ids are computed
//! from the position when they are needed. The record of a deleted user stays, so that positions never change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::domain::Timestamp;
use crate::sandbox::ids::{Ids, SandboxId};
use crate::sandbox::kyc::{APPROVED, KycOutcome};
use crate::sandbox::list_index::{ListIndex, ListView};
use crate::sandbox::model_config::ModelConfig;
use crate::sandbox::new_user::{NewUser, SandboxProgram};

/// A user in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserView<'a> {
    /// `{slug}-user-{uid}`, or digits after the fault `id-number`.
    pub service_id: String,
    /// The email as it was sent.
    pub email: &'a str,
    /// The first name.
    pub first_name: &'a str,
    /// The last name, with its staging keyword if it has one.
    pub last_name: &'a str,
    /// The KYC status; `None` if the list has no `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'a str>,
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

#[derive(Debug, Default)]
pub(super) struct Users {
    records: Vec<UserRecord>,
    list: ListIndex,
    by_email: HashMap<EmailHash, usize>,
    /// Users whose id is a number.
    by_number: HashMap<String, usize>,
    /// Emails of deleted users, and whether the user was approved. An email that is used again isn't among them.
    deleted: HashMap<EmailHash, bool>,
}

#[derive(Debug)]
struct UserRecord {
    /// Email, first name and last name, one after the other.
    text: Box<str>,
    email_end: u16,
    first_name_end: u16,
    program: SandboxProgram,
    outcome: KycOutcome,
    is_listed: bool,
    has_number: bool,
    active_cards: u32,
    created_at: Timestamp,
    /// The status that a control request set.
    set_status: Option<Arc<str>>,
}

impl Users {
    /// The number of users that exist.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The number of users that ever existed.
    pub(super) fn positions(&self) -> usize {
        self.records.len()
    }

    /// Adds a user and returns its position; `None` if its email is taken, without regard to case. `now` never
    /// decreases.
    pub(super) fn insert(&mut self, now: Timestamp, user: &NewUser<'_>) -> Option<usize> {
        use std::collections::hash_map::Entry;
        let (position, hash) = (self.records.len(), email_hash(user.email));
        let Entry::Vacant(vacant) = self.by_email.entry(hash) else {
            return None;
        };
        vacant.insert(position);
        self.records.push(UserRecord::new(now, user));
        self.list.push();
        if !self.deleted.is_empty() {
            self.deleted.remove(&hash);
        }
        Some(position)
    }

    /// Deletes an existing user. `was_approved` decides the fee of a re-creation.
    pub(super) fn delete(&mut self, position: usize, was_approved: bool) {
        let record = &mut self.records[position];
        record.is_listed = false;
        let hash = email_hash(record.email());
        self.list.remove(position);
        self.by_email.remove(&hash);
        self.deleted.insert(hash, was_approved);
    }

    /// Whether the user with this email was deleted and hadn't been approved.
    pub(super) fn is_fee_waived(&self, email: &str) -> bool {
        !self.deleted.is_empty() && self.deleted.get(&email_hash(email)) == Some(&false)
    }

    /// The position of the user with this email, without regard to case.
    pub(super) fn find(&self, email: &str) -> Option<usize> {
        self.by_email.get(&email_hash(email)).copied()
    }

    /// The position of the user with this `serviceId`.
    pub(super) fn find_id(&self, service_id: &str, config: &ModelConfig) -> Option<usize> {
        if let Some(position) = self.by_number.get(service_id) {
            return Some(*position).filter(|position| self.records[*position].is_listed);
        }
        let position = Ids::new(config.seed).position(&config.slug, service_id)?;
        let record = self.records.get(position)?;
        (record.is_listed && !record.has_number).then_some(position)
    }

    pub(super) fn service_id(&self, position: usize, config: &ModelConfig) -> SandboxId {
        let ids = Ids::new(config.seed);
        if self.records[position].has_number {
            SandboxId::Number(ids.number(position))
        } else {
            SandboxId::Text(ids.service_id(&config.slug, position))
        }
    }

    /// Makes the `serviceId` of a user a number.
    pub(super) fn number(&mut self, position: usize, config: &ModelConfig) {
        self.records[position].has_number = true;
        self.by_number.insert(self.service_id(position, config).to_string(), position);
    }

    pub(super) fn status(&self, position: usize, now: Timestamp, config: &ModelConfig) -> &str {
        self.records[position].status(now, config.kyc_after)
    }

    /// Whether the user at a position has finished its KYC.
    pub(super) fn is_approved(&self, position: usize, now: Timestamp, config: &ModelConfig) -> bool {
        self.status(position, now, config) == APPROVED
    }

    /// Sets the KYC status of a user; `None`: the one that its last name decides.
    pub(super) fn set_status(&mut self, position: usize, status: Option<Arc<str>>) {
        self.records[position].set_status = status;
    }

    pub(super) fn active_cards(&self, position: usize) -> u32 {
        self.records[position].active_cards
    }

    pub(super) fn set_active_cards(&mut self, position: usize, cards: u32) {
        self.records[position].active_cards = cards;
    }

    /// The first position of users that were created less than `lag` before `now`.
    pub(super) fn positions_created_by(&self, now: Timestamp, lag: Duration) -> usize {
        self.records.partition_point(|record| record.created_at.plus(lag) <= now)
    }

    /// The number of existing users below a position.
    pub(super) fn len_below(&self, positions_end: usize) -> usize {
        self.list.len_below(positions_end)
    }

    /// The positions of the users on a page.
    pub(super) fn page(&mut self, view: ListView, skip: u64, limit: u32) -> Vec<usize> {
        self.list.page(view, skip, limit)
    }

    /// The positions of a random share of the users, from 0 to 1.
    pub(super) fn share(&self, share: f64, rng: &mut fastrand::Rng) -> Vec<usize> {
        let total = self.len();
        let count = (total as f64 * share).round() as usize;
        rng.choose_multiple(0..total, count).into_iter().map(|rank| self.list.nth(rank)).collect()
    }

    /// The user at a position, as of `now`; `None` if there is none or it was deleted.
    pub(super) fn view(&self, position: usize, now: Timestamp, config: &ModelConfig) -> Option<UserView<'_>> {
        let record = self.records.get(position).filter(|record| record.is_listed)?;
        let (first_name, last_name) = record.names();
        Some(UserView {
            service_id: self.service_id(position, config).to_string(),
            email: record.email(),
            first_name,
            last_name,
            status: config.shows_status.then(|| record.status(now, config.kyc_after)),
            program: record.program,
            created_at: config.shows_created_at.then(|| config.on_partner_clock(record.created_at).to_string()),
            verification_url: Ids::new(config.seed).verification_url(position),
        })
    }
}

impl UserRecord {
    fn new(now: Timestamp, user: &NewUser<'_>) -> Self {
        let text = [user.email, user.first_name, user.last_name].concat();
        // The field rules limit an email to 254 bytes and a name to 100 characters, which are at most 400 bytes.
        let end = |bytes: usize| u16::try_from(bytes).expect("the field rules limit the text");
        Self {
            email_end: end(user.email.len()),
            first_name_end: end(user.email.len() + user.first_name.len()),
            text: text.into_boxed_str(),
            program: user.program,
            outcome: KycOutcome::of_last_name(user.last_name),
            is_listed: true,
            has_number: false,
            active_cards: 0,
            created_at: now,
            set_status: None,
        }
    }

    fn email(&self) -> &str {
        &self.text[..usize::from(self.email_end)]
    }

    fn names(&self) -> (&str, &str) {
        self.text[usize::from(self.email_end)..].split_at(usize::from(self.first_name_end - self.email_end))
    }

    fn status(&self, now: Timestamp, kyc_after: Duration) -> &str {
        match &self.set_status {
            Some(status) => status,
            None => self.outcome.status(now.since(self.created_at), kyc_after),
        }
    }
}

fn email_hash(email: &str) -> EmailHash {
    let hash: [u8; 32] = Sha256::digest(email.to_lowercase()).into();
    let mut digest = EmailHash::default();
    digest.copy_from_slice(&hash[..16]);
    digest
}
