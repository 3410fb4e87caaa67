//! Connections to the broker: rebuilt after every fault.

pub(crate) mod connection_log;
pub mod link;
pub(crate) mod refusal;
pub(crate) mod socket;
pub mod tls;
