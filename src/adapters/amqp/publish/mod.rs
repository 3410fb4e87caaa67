//! Publishes with publisher confirms: outcomes and copies of jobs, KYC events, and rows of a file.
//!
//! | module | what it publishes |
//! | --- | --- |
//! | [`publisher`] | single messages for many concurrent callers (worker, webhooks, dead letters) |
//! | [`kyc_events`] | KYC events, over a [`publisher`] |
//! | [`producer`] | the rows of a file in order, for `import` |
//! | `message` | one message on one channel; the two above use it |
//! | `refused_routes` | decides which message is retried next where the broker refuses messages |
//!
//! **Invariants**
//! - Each publisher has a connection of its own: while the broker blocks publishers, acknowledgements continue.
//! - Every message is persistent and `mandatory`, and counts as published only once the broker confirmed it unreturned.
//! - Delivery is at least once: a message without a confirm is published again with the same `message_id`.

pub mod kyc_events;
pub(crate) mod message;
pub mod producer;
pub mod publisher;
pub(crate) mod refused_routes;
