//! `run` and `check`: one file, one machine.

mod account;
mod bad_input;
mod check_command;
mod faults;
mod halts;
mod limits;
mod other_inputs;
mod outage;
mod proxy;
mod questions;
mod report;
mod resumes;
mod samples;
mod silent_connection;
mod stops;
mod throttled;
mod workbooks;
