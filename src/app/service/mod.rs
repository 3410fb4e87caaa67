//! What long-running commands share: the partner, the broker, logging, signals, reloading and traces.

pub(crate) mod broker;
pub(crate) mod logging;
pub(crate) mod partner;
pub(crate) mod reload;
pub(crate) mod signals;
pub(crate) mod traces;
