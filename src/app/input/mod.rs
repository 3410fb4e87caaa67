//! From the rows of a customer file to jobs.

pub(crate) mod input_copy;
pub(crate) mod row_parser;
pub(crate) mod rows;
