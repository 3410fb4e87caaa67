//! What is printed at the terminal: results, progress and the next command.

pub(crate) mod next_command;
pub(crate) mod progress;
pub(crate) mod stdout;

use indicatif::HumanCount;

/// A number with its digits in groups of three: `1,234,567`. A string, because [`HumanCount`] ignores widths.
pub(crate) fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}
