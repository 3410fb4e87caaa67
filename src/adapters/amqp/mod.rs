//! The queue on RabbitMQ (`amqp://`, `amqps://`).
//!
//! [`topology`] describes exchanges and queues; [`link`] keeps a connection and rebuilds it; [`publisher`] sends
//! events and returned jobs, with confirms, on a connection of its own (a blocked publisher must not hold up
//! acknowledgements); [`source`] consumes the lanes and puts the ports on top; [`headers`] carries a job's history
//! over the broker.
//!
//! **Invariants**
//! - A delivery is acknowledged only after its event, or its copy on another queue, was confirmed by the broker.
//! - Nothing is held near the broker's `consumer_timeout`: longer waits are spent on delay queues.
//! - A broker that goes away is a fault to wait out, never the end: connection, channels, topology and consumers
//!   are rebuilt. What was in hand comes back, marked `redelivered`.

pub mod headers;
pub mod link;
pub mod publisher;
pub mod source;
pub mod topology;
