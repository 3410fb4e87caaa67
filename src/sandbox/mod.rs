//! A simulated Plu partner API, for sandbox runs, tests and the simulation.
//!
//! It has three layers with the same behaviour:
//!
//! - [`Model`] is the partner as a pure value: requests in, replies out. It has no sockets, no clock and no sleeping.
//!   The caller passes `now`, and every id is computed from a seed, so that a simulation can call it directly.
//! - [`HostilePartner`] is the model with the faults of a [`FaultPlan`]: as pure as the model.
//! - [`serve`] and [`Sandbox`] serve it over HTTP.
//!
//! | file | holds |
//! | --- | --- |
//! | `config`, `model_config` | every property, its unit and its default |
//! | `request` | the requests, and what is read from their headers |
//! | `model` | the order of the checks, and the state that they read |
//! | `rules`, `new_user` | the field rules of the create body, and what is kept of it |
//! | `refusal`, `reply` | the refusals of a request; the JSON shapes |
//! | `users`, `list_index`, `ids`, `kyc` | the users, their order in the list, their ids and statuses |
//! | `wallet`, `money` | what creations cost |
//! | `key_ledger`, `rolling_second` | used idempotency keys; the rate |
//! | `plan`, `fault_kind`, `quirk` | the fault list as users write it |
//! | `faults` | the fault and the delay of each request |
//! | `hostile`, `damage`, `compress` | what is sent to the client |
//! | `control`, `user_change` | changes while it runs |
//! | `http`, `routes`, `shared`, `severable`, `trickle` | the HTTP server |
//!
//! Invariants: at most one user per email. A refused request changes nothing but counters (and uses up its key, if a
//! business rule refused it). The model's lock is never held over an await. Nothing about a user is logged.
//!
//! # Assumptions
//!
//! The model follows the vendor's documentation exactly. What the vendor doesn't document is *Assumed*:
//!
//! 1. The order of the checks is the one in [`Model::create`].
//! 2. A key counts as used once an authorised, well-formed request reaches the business rules: after a success and
//!    after a 400 of a business rule, but not after a 400 about headers or JSON, nor after a 401, 402, 403, 413, 422
//!    or 429. Refusing a reused key doesn't prolong its TTL.
//! 3. Codes: `UNAUTHORIZED`, `ACCOUNT_SUSPENDED`, `RATE_LIMIT_EXCEEDED`, `IDEMPOTENCY_KEY_REQUIRED`,
//!    `INVALID_IDEMPOTENCY_KEY`, `INVALID_CONTENT_TYPE`, `INVALID_JSON`, `NOT_FOUND`, `METHOD_NOT_ALLOWED`,
//!    `PAYLOAD_TOO_LARGE`, `INTERNAL_SERVER_ERROR`, and `IDEMPOTENCY_KEY_ALREADY_USED` (configurable).
//! 4. Emails are unique without regard to case, and listed as they were sent.
//! 5. Characters are Unicode scalar values. Text isn't trimmed. An optional field may be absent, not `null`. Unknown
//!    fields are refused. A wallet address is checked for both programs.
//! 6. A revoked key or a suspended account refuses every request; an empty wallet refuses creations only.
//! 7. A throttled request doesn't count against the rate limit. `Retry-After` is whole seconds, configurable, and can
//!    be left out.
//! 8. The order of the list is configurable. `limit` is 50 if absent and at most 100; a larger one is lowered or
//!    refused. A `limit` below 1 or a parameter that isn't a number is a 422. Unknown parameters are ignored.
//! 9. The statuses in the list are those of the webhooks, such as `needsVerification`, and `pending_kyc` until the KYC
//!    is decided. They follow the last name, as webhooks do in the vendor's staging.
//! 10. A deletion needs an idempotency key and shares the used keys with creations. A `USER_NOT_FOUND` and an
//!     `ACTIVE_CARDS_EXIST` use up the key. `activeCards` is their number. Users of any status can be deleted.
//! 11. A waived fee needs no balance. What is known of an email is the latest deletion of a user with it. Nothing is
//!     refunded.
//!
//! One addition of this sandbox: a `lastName` that ends in `Blacklisted` is answered `USER_BLACKLISTED`.

mod compress;
mod config;
mod control;
mod damage;
mod fault_kind;
mod faults;
mod hostile;
mod http;
mod ids;
mod key_ledger;
mod kyc;
mod list_index;
mod model;
mod model_config;
mod money;
mod new_user;
mod plan;
mod quirk;
mod refusal;
mod reply;
mod request;
mod rolling_second;
mod routes;
mod rules;
mod severable;
mod shared;
mod stats;
mod trickle;
mod user_change;
mod users;
mod wallet;

#[cfg(test)]
mod tests;

pub use config::SandboxConfig;
pub use control::SandboxControl;
pub use fault_kind::{DRIP, FaultKind};
pub use hostile::{HostilePartner, SandboxAnswer, Wire};
pub use http::{Sandbox, serve};
pub use model::Model;
pub use model_config::{AccountState, KeyReuse, ListOrder, ListOverLimit, ModelConfig};
pub use money::Money;
pub use new_user::SandboxProgram;
pub use plan::{FAULT_FORM, FaultPlan, FaultTiming};
pub use reply::{BodyEncoding, SandboxReply};
pub use request::{CreateRequest, DeleteRequest, ListRequest, RequestKind, WalletRequest};
pub use stats::{ModelStats, RequestCounts, SandboxStats};
pub use user_change::{ChangedUsers, UserChange};
pub use users::UserView;
