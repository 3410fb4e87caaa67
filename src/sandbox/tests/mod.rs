//! Tests of the sandbox through its public types: the pure model, then the same over HTTP.

mod fixture;
mod hostile;
mod http;
mod keys;
mod list;
mod model;
mod rules;
