//! Connections to RabbitMQ that are rebuilt after every fault.
//!
//! Consumer, publisher, import, dead letters and queue depth each open a connection of their own here.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`config`] | settings of a connection, read once; password and certificate files are read for each connection |
//! | `connect` | opens a connection with a first channel, retrying until it succeeds |
//! | `socket` | TCP and TLS below the connection; shuts the socket down when the connection is dropped |
//! | [`tls`] | builds the TLS connector from PEM files |
//! | `backoff` | delay before the next connection after a short-lived one |
//! | `events` | what the broker says on a connection: blocked, unblocked, closed |
//! | `connection_log` | logs each change of a connection once |
//! | `explain` | turns broker errors into messages with a remedy |
//!
//! **Invariants**
//! - lapin's own recovery is not used. After a broker restart it can hang without an error, and it never recovers a
//!   closed channel (amqp-rs/lapin#450, #420). The owner drops everything and connects again instead.
//! - Each step has a time limit, because a frozen broker answers nothing.
//! - No message or log line holds the queue URL, which may hold a password.

pub(crate) mod backoff;
pub mod config;
pub(crate) mod connect;
pub(crate) mod connection_log;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod socket;
pub mod tls;
