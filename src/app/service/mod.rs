//! What commands that run for long share: the partner, the broker, signals and traces.

pub(crate) mod broker;
pub(crate) mod partner;
pub(crate) mod reload;
pub(crate) mod signals;
pub(crate) mod traces;
