//! The program as its users meet it: the real binary, real HTTP, real signals, real files.
//!
//! One file per behaviour, each of which says why it exists; what they share is in `support`.

#![cfg(test)]

mod support;

mod amqp_worker;
mod architecture;
mod bad_input;
mod check_command;
mod import_worker;
mod keys;
mod privacy;
mod run_account;
mod run_resumes;
mod run_samples;
mod run_stops;
mod run_throttled;
