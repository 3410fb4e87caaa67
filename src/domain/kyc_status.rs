//! The KYC status of a user in the partner's list, and which statuses say that the user isn't approved.

/// A status, in the partner's spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserStatus(Box<str>);

/// Longest status, in characters.
const CHARS_MAX: usize = 64;

/// The statuses of users that may be deleted to be created again. Closed: every other word, also an undocumented
/// one, forbids it. Source: the vendor's page on deletion (pending or denied), and the one on waived fees
/// (`pending_kyc`).
const UNAPPROVED: [&str; 3] = ["pending", "pending_kyc", "denied"];

impl UserStatus {
    /// The status of a user who passed. Source: the vendor's page on webhooks.
    const APPROVED: &'static str = "approved";

    /// Reads a status. `None` where it isn't a short word.
    pub fn parse(text: &str) -> Option<Self> {
        let length = text.chars().take(CHARS_MAX + 1).count();
        let is_usable = (1..=CHARS_MAX).contains(&length) && !text.contains(char::is_control);
        is_usable.then(|| Self(text.into()))
    }

    /// Returns whether the status proves that the user isn't approved.
    pub fn is_unapproved(&self) -> bool {
        UNAPPROVED.iter().any(|word| word.eq_ignore_ascii_case(&self.0))
    }

    /// Returns whether the status says that the user is approved.
    pub fn is_approved(&self) -> bool {
        self.0.eq_ignore_ascii_case(Self::APPROVED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_words_say_that_a_user_is_not_approved() {
        let is_unapproved = |text| UserStatus::parse(text).is_some_and(|status| status.is_unapproved());
        for text in ["pending", "pending_kyc", "denied", "PENDING", "Denied"] {
            assert!(is_unapproved(text), "{text}");
        }
        for text in [
            "approved",
            "",
            " pending",
            "pending ",
            "not denied",
            "needsVerification",
            "manualReview",
            "canceled",
            "pend",
        ] {
            assert!(!is_unapproved(text), "{text}");
        }
        assert!(UserStatus::parse("Approved").unwrap().is_approved());
        assert_eq!((UserStatus::parse("a\nb"), UserStatus::parse(&"x".repeat(65))), (None, None));
    }
}
