//! Integration tests: they run the built binary with real HTTP, signals, files and a real RabbitMQ.
//!
//! Each file tests one behaviour and says at its top which. Shared helpers and fixtures are in `support`.

#![cfg(test)]

mod support;

mod amqp_faults;
mod amqp_fleet;
mod amqp_pause;
mod amqp_poison;
mod amqp_stops;
mod amqp_tls;
mod amqp_topology;
mod amqp_worker;
mod architecture;
mod bad_input;
mod beside;
mod check_command;
mod contract;
mod dead_letters;
mod deploy;
mod import_amqp;
mod import_worker;
mod keys;
#[cfg(feature = "failpoints")]
mod kill_points;
mod metrics;
mod privacy;
mod purge;
mod queue_contract;
mod ready;
mod reload;
mod run_account;
mod run_faults;
mod run_halts;
mod run_outage;
mod run_report;
mod run_resumes;
mod run_samples;
mod run_stops;
mod run_throttled;
mod simulation;
mod status_page;
mod traces;
mod upstream_examples;
mod webhooks;
