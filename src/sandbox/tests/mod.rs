//! Tests of the sandbox through its public types: the pure model, then the same over HTTP.

mod damage;
mod deletion;
mod fixture;
mod hostile;
mod http;
mod http_answers;
mod keys;
mod list;
mod model;
mod rules;
mod users;
