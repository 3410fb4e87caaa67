//! The edge: adapters that implement the ports on real parts, and readers and writers of files.
//!
//! **Architecture Invariant:** an adapter never imports the pipeline, and no adapter imports another.

pub mod local_queue;
pub mod memory;
pub mod plu_http;
