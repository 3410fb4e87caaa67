//! From the rows of a customer file to jobs.
//!
//! `rows` reads the file and puts the rows on a queue; `row_parser` makes a job of a row, or a list of its problems;
//! `input_copy` keeps a run's own copy of the file; `scratch_queue` recognises repeats without a queue of its
//! own.

pub(crate) mod input_copy;
pub(crate) mod row_parser;
pub(crate) mod rows;
pub(crate) mod scratch_queue;

use crate::adapters::csv::{Delimiter, RECORD_BYTES_MAX, ReadOptions};
use crate::cli::CsvArgs;

/// How a file is read, as the flags say.
pub(crate) fn read_options(flags: &CsvArgs) -> ReadOptions {
    ReadOptions {
        encoding: flags.encoding,
        delimiter: flags.delimiter.and_then(|byte| Delimiter::ALL.into_iter().find(|known| known.byte() == byte)),
        record_bytes_max: RECORD_BYTES_MAX,
    }
}
