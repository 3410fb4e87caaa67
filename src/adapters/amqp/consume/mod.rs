//! Consumes the lanes' queues and acknowledges their deliveries.
//!
//! ```text
//! RabbitMQ ─> session ─> prefetch_buffer (one for each lane) ─> source ─> pipeline
//!    ^                                                                       │
//!    └─────────────── ack_batcher <── handle (finish, requeue) <─────────────┘
//! ```
//!
//! [`consumer`] keeps a connection open and starts a `session` on each; [`source`] implements
//! [`crate::ports::JobSource`] and [`handle`] implements [`crate::ports::Settle`]; [`worker_count`] counts the workers
//! that consume the same queue.
//!
//! **Invariants**
//! - A delivery is acknowledged only after the broker confirmed its event, or its copy on another queue.
//! - No delivery stays unacknowledged near the broker's `consumer_timeout` (30 minutes by default): longer waits are
//!   spent on delay queues.
//! - A delivery is settled on the channel that it came from. If that channel is closed, the broker delivers the job
//!   again.

pub(crate) mod ack_batcher;
pub mod config;
pub mod consumer;
pub mod handle;
pub(crate) mod prefetch_buffer;
pub(crate) mod session;
pub mod source;
pub mod worker_count;
