//! plu-onboard creates users at the Plu card partner API, each exactly once in effect, and hands back an outcome
//! for every job, with the verification link.
//!
//! The map, in the order in which a job travels:
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`cli`], [`config`] | what can be typed and what can be set; `config/default.toml` holds every key |
//! | [`app`] | the commands; the only place where adapters are chosen |
//! | [`adapters::csv`] | customer files in, result files out |
//! | [`adapters::amqp`] | the queue on RabbitMQ |
//! | [`adapters::local_queue`] | the embedded queue: one SQLite file |
//! | [`ports`] | what the pipeline needs from the world: job source, settling, partner, user list |
//! | [`pipeline`] | the way of a job: gate, intent, pace, call, decide, finish; time is tokio's |
//! | [`domain`] | pure: validation, idempotency key, meaning of answers, the protocol of the lost answer |
//! | [`adapters::plu_http`] | the partner over HTTP |
//! | [`telemetry`] | one struct for each notable event: its log line and its metric |
//! | [`sandbox`] | a simulated partner: a pure model and its HTTP shell |
//! | [`simulation`] | all of it on paused time with seeded faults, and a check of every promise; not used by the program |
//! | [`failpoint`] | where the tests kill the process; nothing at all without the feature |
//! | [`clock`] | the one place where the time of day is read |
//!
//! Dependencies point inwards: [`domain`] imports nothing of this crate; [`pipeline`] imports [`domain`],
//! [`ports`], [`telemetry`] and [`clock`]; adapters never import the pipeline; [`app`] knows all. A test reads the `use` lines
//! and holds this. ARCHITECTURE.md says why things are as they are, and what is deliberately not there.

pub mod adapters;
pub mod app;
pub mod cli;
pub mod clock;
pub(crate) mod config;
#[cfg(test)]
mod contract;
pub mod domain;
pub mod failpoint;
pub(crate) mod pipeline;
pub mod ports;
pub mod sandbox;
pub mod telemetry;
#[cfg(any(test, feature = "simulation"))]
pub mod testing;
