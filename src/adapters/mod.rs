//! Adapters: implementations of the ports of [`crate::ports`] on a broker, a database and HTTP, and readers and writers
//! of files.
//!
//! **Architecture invariant:** an adapter never imports the pipeline or another adapter; only `files` is shared.

pub mod amqp;
pub(crate) mod csv;
pub(crate) mod files;
pub(crate) mod kyc_file;
pub mod local_queue;
#[cfg(feature = "otlp")]
pub(crate) mod otlp;
#[warn(missing_docs)]
pub mod plu_http;
pub(crate) mod webhook_http;
