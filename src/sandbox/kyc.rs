//! The KYC status of a user: what the end of `lastName` decides, unless a
//! [`SandboxControl`](crate::sandbox::SandboxControl) set it.
//!
//! A status is a word of the list, not an enum: a client must work with words that no documentation has.

use std::time::Duration;

/// The status of a user who hasn't finished. Documented.
const PENDING_KYC: &str = "pending_kyc";

/// The status of a user who can get a card, and whose re-creation is charged. Documented.
pub(super) const APPROVED: &str = "approved";

/// The outcome of a user's KYC, once it is decided.
#[derive(Clone, Copy, Debug)]
pub(super) enum KycOutcome {
    Undecided,
    Approved,
    Denied,
    NeedsVerification,
}

impl KycOutcome {
    /// The documented staging keywords: case-sensitive, at the end of `lastName`.
    pub(super) fn of_last_name(last_name: &str) -> Self {
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

    /// The status of a user of this age, if the KYC of all users takes `kyc_after`.
    pub(super) fn status(self, age: Duration, kyc_after: Duration) -> &'static str {
        match self {
            _ if age < kyc_after => PENDING_KYC,
            Self::Undecided => PENDING_KYC,
            Self::Approved => APPROVED,
            Self::Denied => "denied",
            Self::NeedsVerification => "needsVerification",
        }
    }
}
