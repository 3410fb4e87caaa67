//! Deliveries from the lanes' queues, and their acknowledgements.

pub(crate) mod acks;
pub mod fleet;
pub mod handle;
pub(crate) mod prefetch_buffer;
pub mod source;
