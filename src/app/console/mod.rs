//! What a person sees at the terminal: answers, progress, errors and the next command.

pub(crate) mod error;
pub(crate) mod next_command;
pub(crate) mod progress;
pub(crate) mod stdout;
