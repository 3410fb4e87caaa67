//! The queue on RabbitMQ (`amqp://`, `amqps://`).
//!
//! | folder | what it does |
//! | --- | --- |
//! | [`connection`] | opens connections and rebuilds them after every fault |
//! | [`topology`] | exchanges, queues and bindings: declares, verifies, prints and counts them |
//! | [`consume`] | delivers jobs from the lanes' queues to the pipeline, and settles them |
//! | [`publish`] | publishes events, copies of jobs and rows of a file, with confirms |
//! | `dead` | lists, retries and drops dead letters |
//!
//! `headers` reads and writes a job's history in the headers of its message.
//!
//! **Invariants**
//! - A delivery is acknowledged only after the broker confirmed its event, or its copy on another queue.
//! - No delivery stays unacknowledged near the broker's `consumer_timeout`: longer waits are spent on delay queues.
//! - A broker that is down never ends the worker. Connection, channels, topology and consumers are rebuilt, and the
//!   broker delivers unsettled jobs again, marked `redelivered`.

pub mod connection;
pub mod consume;
pub(crate) mod dead;
pub(crate) mod headers;
pub mod publish;
pub mod topology;
