//! Import: adds the rows of a file to the queue, in transactions of many rows, each row exactly once.
//!
//! The table `rows` records which job every row became. An interrupted import continues behind the last recorded row,
//! and at the end of a run every row is accounted for.

mod batch;
mod importer;

pub use self::batch::{Batch, BatchKind, KnownBatch, batches, discard};
pub use self::importer::{Enqueued, Importer, RowPosition};
