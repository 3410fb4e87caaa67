//! The sandbox from outside, by its public types: the pure model directly, then the same over HTTP.

mod fixture;
mod hostile;
mod http;
mod keys;
mod list;
mod model;
mod rules;
