//! The queue on RabbitMQ (`amqp://`, `amqps://`).
//!
//! [`topology`] describes exchanges and queues, `establish` declares or verifies them and [`definitions`] prints them;
//! [`link`] keeps a connection and rebuilds it, over a `socket` that it can cut and [`tls`]; `refusal` puts into words
//! what the broker says no to; [`publisher`] sends
//! events and returned jobs, with confirms, on a connection of its own (a blocked publisher must not hold up
//! acknowledgements); [`source`] consumes the lanes and puts the ports on top, `acks` acknowledges many jobs at once; [`headers`] carries a job's history
//! over the broker. [`fleet`] counts the workers on a queue; [`producer`] puts the rows of a file on a lane; [`dead`] looks
//! after the dead letters.
//!
//! **Invariants**
//! - A delivery is acknowledged only after its event, or its copy on another queue, was confirmed by the broker.
//! - Nothing is held near the broker's `consumer_timeout`: longer waits are spent on delay queues.
//! - A broker that goes away is a fault to wait out, never the end: connection, channels, topology and consumers
//!   are rebuilt. What was in hand comes back, marked `redelivered`.

mod acks;
pub mod dead;
pub mod definitions;
pub mod depth;
mod establish;
pub mod fleet;
pub mod headers;
mod herald;
mod inbox;
pub mod link;
pub mod producer;
pub mod publisher;
mod refusal;
mod refused_routes;
mod socket;
pub mod source;
pub mod tls;
pub mod topology;
