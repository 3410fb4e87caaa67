//! From the rows of a customer file to jobs.
//!
//! `rows` reads the file and puts the rows on a queue; `row_parser` makes a job of a row, or a list of its problems;
//! `questions` asks about what can't be known from the file; `input_copy` keeps a run's own copy of the file; `standard_input` stores what is piped in; `file_notes` says how a
//! file is read; `scratch_queue` recognises repeats without a queue of its own.

pub(crate) mod file_notes;
pub(crate) mod input_copy;
pub(crate) mod questions;
pub(crate) mod row_parser;
pub(crate) mod rows;
pub(crate) mod scratch_queue;
pub(crate) mod standard_input;

use crate::adapters::csv::{Delimiter, RECORD_BYTES_MAX, ReadOptions};
use crate::cli::CsvArgs;
use crate::domain::ReadingOptions;

/// How a file is read, as the flags say.
pub(crate) fn read_options(flags: &CsvArgs) -> ReadOptions {
    ReadOptions {
        encoding: flags.encoding,
        delimiter: flags.delimiter.and_then(|byte| Delimiter::ALL.into_iter().find(|known| known.byte() == byte)),
        sheet: flags.sheet.clone(),
        header_row: flags.header_row,
        record_bytes_max: RECORD_BYTES_MAX,
    }
}

/// How values are read, as the flags say.
pub(crate) const fn reading_options(flags: &CsvArgs) -> ReadingOptions {
    ReadingOptions { phone_without_plus: flags.phone_without_plus, mends_double_encoding: flags.mend_double_encoding }
}
