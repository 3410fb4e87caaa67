//! A simulated Plu partner API, for rehearsals, tests and simulations.
//!
//! Three layers, one behaviour:
//!
//! - [`Model`] is the partner as a pure value: requests in, replies out. No sockets, no clock, no
//!   sleeping; the caller passes `now`, and every id follows from a seed. A simulation calls it
//!   directly.
//! - [`Hostile`] is that partner with everything that goes wrong on the way to it, by a [`FaultPlan`]: as pure
//!   as the model.
//! - [`serve`] and [`Sandbox`] put it behind real HTTP.
//!
//! | file | holds |
//! | --- | --- |
//! | `config` | every setting, its unit and its default |
//! | `model` | the order of the checks and the state they act on |
//! | `rules` | the field rules of the create body |
//! | `refusal`, `reply` | every way a request is refused; the JSON shapes |
//! | `key_ledger`, `rolling_second`, `users`, `ids` | bounded or compact state |
//! | `plan` | the list of faults as people write it |
//! | `faults` | which fault a request gets, and how late its answer is |
//! | `hostile` | what leaves on the wire |
//! | `http`, `routes`, `shared`, `control`, `severable`, `trickle` | the HTTP shell |
//!
//! Invariants: a user is created once per email; a refused request changes nothing but counters
//! (and, for a business rule, its key); the model's lock is never held over an await; nothing about
//! a user is ever logged.
//!
//! # Assumptions
//!
//! What the vendor documents is followed to the letter. The vendor doesn't say the following, so
//! each is *Assumed*:
//!
//! 1. The checks come in the order given in [`Model::create`].
//! 2. A key counts as used once an authorised, well-formed request reached the business rules: by a
//!    success and by a 400 business rule alike, not by a 400 about headers or JSON, nor by a 401,
//!    402, 403, 413, 422 or 429. Refusing a reused key doesn't prolong its life.
//! 3. Codes: `UNAUTHORIZED`, `ACCOUNT_SUSPENDED`, `RATE_LIMIT_EXCEEDED`,
//!    `IDEMPOTENCY_KEY_REQUIRED`, `INVALID_IDEMPOTENCY_KEY`, `INVALID_CONTENT_TYPE`,
//!    `INVALID_JSON`, `NOT_FOUND`, `METHOD_NOT_ALLOWED`, `PAYLOAD_TOO_LARGE`,
//!    `INTERNAL_SERVER_ERROR`, and `IDEMPOTENCY_KEY_ALREADY_USED` (settable).
//! 4. Emails are unique without regard to case, and listed as they were sent.
//! 5. Characters are Unicode scalar values. Text isn't trimmed. An optional field may be absent,
//!    not `null`. Unknown fields are refused. A wallet address that is given is checked for either
//!    program.
//! 6. A revoked key or a suspended account refuses every call; an empty wallet refuses only
//!    creations.
//! 7. A throttled request doesn't count against the rate limit; `Retry-After` is whole seconds,
//!    settable, and can be left out.
//! 8. The list's order is settable; `limit` is 50 when absent and capped at 100; a `limit` below 1
//!    or a parameter that isn't a number is a 422; unknown parameters are ignored.
//! 9. The list spells the third KYC status `needs_verification`, after the documented
//!    `pending_kyc`.
//!
//! One convenience of this sandbox alone: a `lastName` that ends in `Blacklisted` is answered
//! `USER_BLACKLISTED`.

mod config;
mod control;
mod faults;
mod hostile;
mod http;
mod ids;
mod key_ledger;
mod model;
mod plan;
mod refusal;
mod reply;
mod rolling_second;
mod routes;
mod rules;
mod severable;
mod shared;
mod stats;
mod trickle;
mod users;

#[cfg(test)]
mod tests;

pub use config::{AccountState, KeyReuse, ListOrder, ModelConfig, SandboxConfig};
pub use control::Control;
pub use hostile::{Answer, Hostile, Wire};
pub use http::{Sandbox, serve};
pub use model::{CreateRequest, ListRequest, Model};
pub use plan::{DRIP, FAULT_FORM, FaultKind, FaultPlan, When};
pub use reply::Reply;
pub use rules::Program;
pub use stats::{RequestCounts, SandboxStats, Stats};
pub use users::UserView;
