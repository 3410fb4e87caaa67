//! What holds on both kinds of queue.

mod contract;
mod dead_letters;
#[cfg(feature = "failpoints")]
mod fail_points;
mod simulation;
