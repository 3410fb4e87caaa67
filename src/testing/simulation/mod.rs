//! Simulation: the whole pipeline on paused time, with every fault at once. Workers die between any two steps and
//! restart, the partner is hostile, and the queue loses acknowledgements. After each run every promise is checked.
//!
//! One seed decides everything. So a run that breaks a promise is named by its seed, and can be repeated exactly.
//!
//! | file | holds |
//! | --- | --- |
//! | `plan` | what a seed decides: jobs, faults, deaths, settings |
//! | `run` | one run of a plan, from the first job to the last outcome |
//! | `world` | what the workers of a run share |
//! | `lives` | the lives of the workers |
//! | `partner` | the partner, with users from before |
//! | `network` | the partner's ports on the pure [`crate::sandbox::HostilePartner`], with travel times |
//! | `record` | what happened: requests, decisions, and which faults met which decisions |
//! | `evidence` | what a run has left behind |
//! | `promises`, `job_check` | what must hold then, in all and for one job |
//! | `replacing` | what must hold for jobs that replace a user |
//! | `coverage` | which faults can meet which decisions, and which did |
//!
//! Needs a current-thread runtime with paused time; `tests/it/queues/simulation.rs` and `examples/simulate.rs` make
//! one.
//!
//! **Architecture Invariant:** the program itself doesn't use this module.

mod coverage;
mod evidence;
mod job_check;
mod lives;
mod network;
mod partner;
mod plan;
mod promises;
mod record;
mod replacing;
mod run;
mod world;

pub use self::coverage::Coverage;
pub use self::plan::Plan;
pub use self::run::{SimulationRun, simulate};
