//! The queue on RabbitMQ (`amqp://`, `amqps://`).
//!
//! [`topology`] describes exchanges and queues, `establish` declares or verifies them and [`definitions`] prints them;
//! [`link`] keeps a connection and rebuilds it, over a `socket` that it can cut and [`tls`]; `refusal` puts into words
//! what the broker says no to; [`publisher`] sends
//! events and returned jobs, with confirms, on a connection of its own (a blocked publisher must not hold up
//! acknowledgements), and `refused_routes` lines up what the broker refuses; [`source`] consumes the lanes, `prefetch_buffer` keeps what nobody has in hand yet,
//! [`handle`] settles a job in hand and `acks` acknowledges many at once; [`headers`] carries a job's history over the broker. `connection_log` says once what a
//! connection is up to. [`fleet`] counts the workers on a queue; [`producer`] puts the rows of a file on a lane; [`dead`] looks
//! after the dead letters.
//!
//! **Invariants**
//! - A delivery is acknowledged only after its event, or its copy on another queue, was confirmed by the broker.
//! - Nothing is held near the broker's `consumer_timeout`: longer waits are spent on delay queues.
//! - A broker that goes away is a fault to wait out, never the end: connection, channels, topology and consumers
//!   are rebuilt. What was in hand comes back, marked `redelivered`.

pub mod connection;
pub mod consume;
pub mod dead;
pub mod headers;
pub mod publish;
pub mod topology;
