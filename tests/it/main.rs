//! Integration tests: they run the built binary with real HTTP, signals, files and a real RabbitMQ.
//!
//! Each file tests one behaviour and says at its top which. Shared helpers and fixtures are in `support`.

#![cfg(test)]

mod amqp;
mod embedded;
mod meta;
mod ops;
mod queues;
mod run;
mod support;
