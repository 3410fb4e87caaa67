//! One job, from its delivery to its outcome.
//!
//! ```text
//! process ── start ── person lock ── canary permit ──┬── next_action ──> outcome: finish
//!                                                    │        │    └───> requeue
//!                                                    └─ retry ┘
//! next_action = request (gate, intent, send slot, call) and, if the answer asks for it, look_up
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `active` | a job in progress, parsed from its delivery |
//! | `process` | the loop: what to do next, until the job is finished or requeued |
//! | `request` | admits and sends a request, and reports its result to the gate |
//! | `send_slot` | waits for the front of the lane queue, an in-flight slot and the rate permit |
//! | `look_up` | looks the user up, and decides on the result |
//! | `replace`, `replacement`, `delete` | a job that deletes a user and creates it again |
//! | `discount` | removes requests that aren't attempts from a job's history |
//! | `outlier` | delays a job that alone gets answers about the account |
//! | `outcome` | ends a delivery: finished, requeued, or left to the broker |
//! | `action` | what happens to a job next |
//! | `wait` | waits that a shutdown or a time limit ends |
//!
//! **Invariant:** the intent is recorded before the request is sent.

mod action;
mod active;
mod delete;
mod discount;
mod look_up;
mod outcome;
mod outlier;
mod process;
mod replace;
mod replacement;
mod request;
mod send_slot;
mod wait;

pub(super) use self::process::process;
