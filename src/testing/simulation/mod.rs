//! The whole pipeline on paused time, with everything going wrong that can: workers that die between any two steps and
//! are born again, a hostile partner, a queue that forgets acknowledgements. After each run every promise is checked.
//!
//! One seed decides everything, so a run that breaks a promise is told by its seed and happens again exactly.
//!
//! | file | holds |
//! | --- | --- |
//! | `plan` | what a seed means: jobs, faults, deaths, settings |
//! | `world` | runs a plan: workers' lives over one queue and one partner |
//! | `network` | the partner's ports on the pure [`crate::sandbox::Hostile`], with travel times |
//! | `record` | what happened: requests, decisions, which faults met which decisions |
//! | `promises` | what must hold afterwards |
//! | `coverage` | which faults can meet which decisions, and which did |
//!
//! Needs a current-thread runtime with paused time; `tests/it/simulation.rs` and `examples/simulate.rs` make one.
//!
//! **Architecture Invariant:** nothing here is used by the program itself.

mod coverage;
mod network;
mod plan;
mod promises;
mod record;
mod world;

pub use coverage::{Coverage, FAULTS, ROWS, infeasible};
pub use plan::Plan;
pub use world::{Run, simulate};
