//! What the sandbox counted. Every request of the API moves one counter of [`RequestCounts`] and
//! one outcome.

use serde::{Deserialize, Serialize};

/// Requests by kind, whatever their outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestCounts {
    /// Requests to create a user.
    pub create: u64,
    /// Requests for a page of users.
    pub list: u64,
}

/// Counters of the model since it was built.
///
/// `created + listed` and the refusals (`duplicates_refused`, `keys_refused`, `rejected`,
/// `throttled`, `unauthorized`, `account_refused`) together are all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Requests by kind.
    pub requests: RequestCounts,
    /// Users created: 201, whether or not the answer arrived.
    pub created: u64,
    /// Pages of users handed out: 200.
    pub listed: u64,
    /// Creations refused because the email is taken: `DUP_USER`.
    pub duplicates_refused: u64,
    /// Creations refused because the idempotency key was already used.
    pub keys_refused: u64,
    /// Requests refused for what they said: every other 400, and 422.
    pub rejected: u64,
    /// Requests refused by the rate limit: 429.
    pub throttled: u64,
    /// Requests refused for the API key: 401.
    pub unauthorized: u64,
    /// Requests refused for the account's condition: 402 and 403.
    pub account_refused: u64,
    /// The most requests that arrived in any rolling second, throttled ones included.
    pub max_requests_in_any_second: u64,
    /// Users that exist now.
    pub users: u64,
}

/// Counters of the model, and of the faults put in front of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxStats {
    /// What the partner counted.
    #[serde(flatten)]
    pub model: Stats,
    /// Creations that took effect and were never answered.
    pub answers_lost: u64,
    /// Creations that took effect and were answered 500.
    pub answers_failed: u64,
    /// Requests to which something of the fault list happened.
    pub faults_injected: u64,
}
