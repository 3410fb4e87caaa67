//! Everything that needs a RabbitMQ.

mod faults;
mod fleet;
mod identical_jobs;
mod import;
mod pause;
mod poison;
mod silent_broker;
mod stops;
mod tls;
mod topology;
mod upstream_examples;
mod worker;
