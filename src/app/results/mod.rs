//! What a run leaves behind: result files, summary and report.

pub(crate) mod report;
pub(crate) mod summary;
pub(crate) mod tables;
