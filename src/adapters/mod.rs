//! The edge: adapters that implement the ports of [`crate::ports`] on real parts, and readers and writers of what
//! people hand in and take away.
//!
//! **Architecture Invariant:** an adapter never imports the pipeline, and no adapter imports another.

pub mod amqp;
pub mod csv;
pub mod faulty;
pub mod kyc_file;
pub mod local_queue;
pub mod memory;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod plu_http;
pub mod webhook_http;
