//! The counters of the sandbox. Every request of the API increments one counter of [`RequestCounts`] and one of the
//! answers.

use serde::{Deserialize, Serialize};

use crate::sandbox::money::Money;

/// Requests by kind, with any answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestCounts {
    /// Requests to create a user.
    pub create: u64,
    /// Requests for a page of users.
    pub list: u64,
    /// Requests to delete a user.
    pub delete: u64,
    /// Requests for the balance of the wallet.
    pub wallet: u64,
}

/// Counters of the model since it was created.
///
/// `created + listed + deleted + wallet_read` and the refusals (`duplicates_refused`, `keys_refused`,
/// `deletions_refused`, `rejected`, `throttled`, `unauthorized`, `account_refused`) together are all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStats {
    /// Requests by kind.
    pub requests: RequestCounts,
    /// Users created: 201, even if the answer was lost.
    pub created: u64,
    /// Pages of the user list that were answered 200.
    pub listed: u64,
    /// Users deleted, even if the answer was lost.
    pub deleted: u64,
    /// Deleted users whose status was `approved`. This project deletes none.
    pub approved_deleted: u64,
    /// Answers with the balance of the wallet.
    pub wallet_read: u64,
    /// Creations whose fee was charged.
    pub fees_charged: u64,
    /// Creations whose fee was waived: the user had been deleted with the same email and hadn't been approved.
    pub fees_waived: u64,
    /// The sum of the charged fees.
    pub fees_total: Money,
    /// Creations refused because the email is taken: `DUP_USER`.
    pub duplicates_refused: u64,
    /// Creations and deletions refused because the idempotency key was already used.
    pub keys_refused: u64,
    /// Deletions refused: `USER_NOT_FOUND` and `ACTIVE_CARDS_EXIST`.
    pub deletions_refused: u64,
    /// Requests refused for their content: every other 400, and 422.
    pub rejected: u64,
    /// Requests refused by the rate limit: 429.
    pub throttled: u64,
    /// Requests refused for the API key: 401.
    pub unauthorized: u64,
    /// Requests refused for the state of the account: 402 and 403.
    pub account_refused: u64,
    /// The maximum number of requests in any rolling second, throttled ones included.
    pub max_requests_in_any_second: u64,
    /// Users that exist now.
    pub users: u64,
}

/// Counters of the model and of the faults in front of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxStats {
    /// The counters of the model.
    #[serde(flatten)]
    pub model: ModelStats,
    /// Requests that took effect and were not answered.
    pub answers_lost: u64,
    /// Requests that took effect and were answered 500.
    pub answers_failed: u64,
    /// Requests with a fault of the fault list.
    pub faults_injected: u64,
}
