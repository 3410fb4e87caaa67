//! plu-onboard creates users at the Plu card partner API, each exactly once in effect. It publishes an outcome for
//! every job, with the verification link.
//!
//! The way of a job through the modules:
//!
//! ```text
//! spreadsheet ──> app::commands::{run, import} ──┐
//! upstream ──────────────────────────────────────┴──> queue (adapters::local_queue or adapters::amqp)
//!                                                       │ ports::JobSource
//!   partner API <── adapters::plu_http <── pipeline::job (gate, intent, rate limit, request, decision)
//!                   ports::PartnerApi                   │ ports::Settle
//!                                                       └──> outcome event, result files
//! partner webhook ──> adapters::webhook_http ──> KYC event
//! ```
//!
//! | module | content |
//! | --- | --- |
//! | [`cli`] | the command line: commands, arguments, `--help` |
//! | `config` | the settings, from `config/default.toml`, a file, the environment and arguments |
//! | [`app`] | the program around the pipeline; the only module that chooses adapters |
//! | `app::commands` | one module for each command: run, check, import, worker, webhooks, dead, purge, health, ... |
//! | `app::{input, results, console, service, ops}` | rows to jobs; result files; terminal; parts that long-running commands share; status page and metrics |
//! | [`domain`] | pure: validation, idempotency key, the meaning of answers, the protocol of the lost answer |
//! | [`ports`] | the traits through which the pipeline uses queues and the partner |
//! | `pipeline::job` | processes one job, from the queue to its outcome |
//! | `pipeline::gate` | decides whether requests may be sent: throttled, paused, circuit breaker, halted |
//! | `pipeline::rate` | decides when the next request may be sent and from which lane; backoff |
//! | `pipeline::user_lookup` | finds users by email in the partner's user list |
//! | `pipeline::guards` | halt, outlier jobs, per-person lock, user ownership |
//! | [`adapters::amqp`] | the queue on RabbitMQ: connection, consume, publish, topology, dead letters |
//! | [`adapters::local_queue`] | the embedded queue: one SQLite file |
//! | [`adapters::plu_http`] | the partner API over HTTP |
//! | `adapters::{csv, kyc_file, webhook_http, otlp}` | customer and result files; KYC events in a file; webhooks; spans |
//! | [`telemetry`] | log, metrics, traces: one struct for each notable event writes its log line and its metric |
//! | [`sandbox`] | a simulated partner API: a pure model and its HTTP server |
//! | `testing` | with the feature `simulation`: queues in memory, faulty adapters, the seeded simulation |
//! | [`failpoint`] | points at which the crash tests kill the process; they do nothing without the feature `failpoints` |
//! | [`clock`] | the time of day |
//!
//! Dependencies point inwards: [`domain`] imports no other module; `pipeline` imports only [`domain`], [`ports`],
//! [`telemetry`] and [`clock`]; adapters never import the pipeline; only [`app`] imports every other module. The test
//! `tests/it/meta/architecture.rs` checks this. ARCHITECTURE.md explains the decisions and what was rejected.
//!
//! The lint `missing_docs` is on for the modules that tests, benchmarks and other programs build on.

pub mod adapters;
#[warn(missing_docs)]
pub mod app;
#[warn(missing_docs)]
pub mod cli;
#[warn(missing_docs)]
pub mod clock;
pub(crate) mod config;
#[cfg(test)]
mod contract;
#[warn(missing_docs)]
pub mod domain;
#[warn(missing_docs)]
pub mod failpoint;
pub(crate) mod pipeline;
#[warn(missing_docs)]
pub mod ports;
#[warn(missing_docs)]
pub mod sandbox;
pub mod telemetry;
#[cfg(any(test, feature = "simulation"))]
pub mod testing;
