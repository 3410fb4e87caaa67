//! Changes of users by `POST /control`: KYC statuses and cards, of one user or of a share of all users.

use serde::{Deserialize, Deserializer, Serialize};

/// Maximum length of a status, in characters.
const STATUS_CHARS_MAX: usize = 64;

/// A change of one or more users.
///
/// As JSON, for example: `{"user": "jane@example.com", "status": "approved", "activeCards": 1}` or
/// `{"share": 0.25, "status": "denied"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UserChangeMembers", into = "UserChangeMembers")]
pub struct UserChange {
    /// The users.
    pub users: ChangedUsers,
    /// The new KYC status, any word of 1 to 64 characters. `Some(None)`, `null` in JSON: the status that the last name
    /// decides.
    pub status: Option<Option<String>>,
    /// The new number of active cards.
    pub active_cards: Option<u32>,
}

/// The users of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangedUsers {
    /// The user with this email or `serviceId`.
    One(String),
    /// A random share of the users that exist at the time of the change, from 0 to 1.
    Share(f64),
}

impl UserChange {
    /// Sets the status of the user with this email or `serviceId`.
    pub fn status_of(user: &str, status: &str) -> Self {
        Self { users: ChangedUsers::One(user.to_owned()), status: Some(Some(status.to_owned())), active_cards: None }
    }

    /// Sets the status of a random share of the users, from 0 to 1.
    pub fn status_of_share(share: f64, status: &str) -> Self {
        Self { users: ChangedUsers::Share(share), ..Self::status_of("", status) }
    }

    /// Sets the number of active cards of the user with this email or `serviceId`.
    pub fn cards_of(user: &str, active_cards: u32) -> Self {
        Self { status: None, active_cards: Some(active_cards), ..Self::status_of(user, "") }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct UserChangeMembers {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    status: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_cards: Option<u32>,
}

impl TryFrom<UserChangeMembers> for UserChange {
    type Error = &'static str;

    fn try_from(members: UserChangeMembers) -> Result<Self, Self::Error> {
        let UserChangeMembers { user, share, status, active_cards } = members;
        let users = match (user, share) {
            (Some(user), None) => ChangedUsers::One(user),
            (None, Some(share)) if (0.0..=1.0).contains(&share) => ChangedUsers::Share(share),
            (None, Some(_)) => return Err("share is a number from 0 to 1"),
            _ => return Err("a change of users needs either user (an email or serviceId) or share"),
        };
        let is_word = |status: &str| {
            (1..=STATUS_CHARS_MAX).contains(&status.chars().count()) && !status.chars().any(char::is_control)
        };
        if status.iter().flatten().any(|status| !is_word(status)) {
            return Err("status is a word of 1 to 64 characters, or null");
        }
        if status.is_none() && active_cards.is_none() {
            return Err("a change of users needs status or activeCards");
        }
        Ok(Self { users, status, active_cards })
    }
}

impl From<UserChange> for UserChangeMembers {
    fn from(change: UserChange) -> Self {
        let UserChange { users, status, active_cards } = change;
        let (user, share) = match users {
            ChangedUsers::One(user) => (Some(user), None),
            ChangedUsers::Share(share) => (None, Some(share)),
        };
        Self { user, share, status, active_cards }
    }
}

/// Distinguishes a field that is `null` from an absent one, which serde by default reads as the same.
pub(super) fn given<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_survive_their_own_json() {
        for (change, json) in [
            (
                UserChange::status_of("jane@example.com", "approved"),
                r#"{"user":"jane@example.com","status":"approved"}"#,
            ),
            (UserChange::status_of_share(0.25, "denied"), r#"{"share":0.25,"status":"denied"}"#),
            (UserChange::cards_of("sandbox-user-1", 2), r#"{"user":"sandbox-user-1","activeCards":2}"#),
            (
                UserChange { status: Some(None), ..UserChange::cards_of("a@example.com", 0) },
                r#"{"user":"a@example.com","status":null,"activeCards":0}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&change).unwrap(), json);
            assert_eq!(serde_json::from_str::<UserChange>(json).unwrap(), change);
        }
    }

    #[test]
    fn incomplete_and_contradicting_changes_are_refused() {
        for json in [
            r#"{"status":"approved"}"#,
            r#"{"user":"a","share":1,"status":"approved"}"#,
            r#"{"user":"a"}"#,
            r#"{"share":1.5,"status":"approved"}"#,
            r#"{"user":"a","status":""}"#,
            r#"{"user":"a","state":"approved"}"#,
        ] {
            assert!(serde_json::from_str::<UserChange>(json).is_err(), "{json}");
        }
    }
}
