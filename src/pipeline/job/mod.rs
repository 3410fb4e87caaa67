//! One job from the queue to its outcome.

pub(crate) mod process;
