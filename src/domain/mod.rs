//! The pure core: what a job, a user, a key, an answer and an outcome are, and every decision about them.
//!
//! **Architecture Invariant:** nothing in here performs I/O, reads a clock, draws a random number or imports
//! another module of this crate. Given the same arguments, every function returns the same result for ever;
//! that is what makes the idempotency key reproducible and the decisions testable as tables.

pub mod answer;
pub mod dead_letter;
pub mod decide;
pub mod event;
pub mod field;
pub mod job;
pub mod key;
pub mod kyc;
pub mod name_mark;
pub(crate) mod private;
pub mod problem;
pub mod timestamp;
pub mod trace;
pub mod user;
pub mod validate;

pub use answer::{AccountReason, Answer, KeySource};
pub use dead_letter::DeadLetter;
pub use event::{Event, EventType, Outcome};
pub use field::Field;
pub use job::{Job, Lane, Source};
pub use key::IdempotencyKey;
pub use kyc::{KycEvent, KycType};
pub use name_mark::NameMark;
pub use problem::{Problem, Warning};
pub use timestamp::Timestamp;
pub use trace::TraceContext;
pub use user::{RawUser, RawValue, User};
pub use validate::validate;
