//! The pure core: the types job, user, key, answer and outcome, and every decision about them.
//!
//! **Invariant:** nothing in here performs I/O, reads a clock, draws a random number or imports another module of this
//! crate. A function with the same arguments always returns the same result. So the idempotency key is the same on
//! every machine, and the decisions are tested as tables.

pub(crate) mod answer;
pub mod columns;
mod country;
pub(crate) mod dead_letter;
pub mod decide;
pub mod event;
pub(crate) mod field;
pub mod job;
pub mod key;
pub(crate) mod kyc;
pub(crate) mod kyc_status;
pub mod link;
pub(crate) mod name_mark;
pub(crate) mod private;
pub(crate) mod problem;
pub mod timestamp;
pub(crate) mod trace;
pub mod user;
pub mod validate;

pub use answer::{AccountReason, Answer, KeySource};
pub use dead_letter::DeadLetter;
pub use event::{Event, EventType, Outcome};
pub use field::Field;
pub use job::{Job, Lane, Source};
pub use key::IdempotencyKey;
pub use kyc::{KycEvent, KycType};
pub(crate) use kyc_status::UserStatus;
pub use link::{LinkLoss, ServiceId, VerificationUrl};
pub use name_mark::NameMark;
pub use problem::{Problem, Warning, WarningKind};
pub use timestamp::Timestamp;
pub use trace::TraceContext;
pub use user::{RawUser, RawValue, User};
pub use validate::{PhoneReading, ReadingOptions, validate, validate_with};
