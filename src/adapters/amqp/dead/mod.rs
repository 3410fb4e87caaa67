//! Dead letters on RabbitMQ: `dead list`, `show`, `retry` and `drop`, while workers run or not.
//!
//! ```text
//! PREFIX.dead ─> queue (consumes in batches) ─> walk (chooses an action for each) ─> mover ─┬─> PREFIX.jobs (retry)
//!      ^                                                                                    ├─> deleted     (drop)
//!      └── kept: requeued by the broker when the channel is closed, or replaced by a copy ──┘
//! ```
//!
//! `message` converts between a message on the dead letter queue and a [`crate::domain::DeadLetter`].
//!
//! Dead letters are consumed in batches and stay unacknowledged until the walk ends, so that each is seen once. The
//! broker requeues those that are kept when the channel is closed, also if this process is killed.
//!
//! Each requeue counts as a delivery. RabbitMQ 4 deletes a message after 20 deliveries by default, because the dead
//! letter queue has no dead letter exchange. So a dead letter that was delivered a few times is replaced by a copy,
//! whose count starts at zero.
//!
//! Nothing is declared: a mistyped prefix must fail, and not create empty queues.
//!
//! **Invariant:** a dead letter is acknowledged only after the broker confirmed its copy, on its lane or here, or when
//! it is dropped.

pub(super) mod message;
mod mover;
pub(crate) mod queue;
mod walk;
