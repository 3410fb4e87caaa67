//! What a re-creation in progress knows.

use crate::domain::decide::LookUpReason;
use crate::domain::{Problem, ServiceId};

/// What a job knows about the user that it replaces.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) id: ServiceId,
    /// Whether the user is deleted, or may be. Being listed again proves nothing: a list may lag.
    pub(super) is_deleted: bool,
    /// Why the user can't be deleted.
    pub(super) kept: Option<Problem>,
    /// Why the next look is needed; `None`: a round begins.
    pub(super) reason: Option<LookUpReason>,
    /// The next step is the creation, without a look.
    pub(super) creates_next: bool,
}

impl Replacement {
    pub(super) fn new(id: ServiceId, was_sent: bool) -> Self {
        Self { id, is_deleted: was_sent, kept: None, reason: None, creates_next: false }
    }
}
