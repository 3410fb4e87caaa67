//! The edge: adapters that implement the ports of [`crate::ports`] on real parts, and readers and writers of what
//! people hand in and take away.
//!
//! **Architecture Invariant:** an adapter never imports the pipeline, and no adapter imports another.

pub mod amqp;
pub(crate) mod csv;
pub(crate) mod kyc_file;
pub mod local_queue;
#[cfg(feature = "otlp")]
pub(crate) mod otlp;
pub mod plu_http;
pub(crate) mod webhook_http;
