//! What long-running commands share: the partner, the broker, the writing of outcomes, the limit of open files,
//! logging, signals, reloading and traces.

pub(crate) mod broker;
pub(crate) mod limits;
pub(crate) mod local_storage;
pub(crate) mod logging;
pub(crate) mod partner;
pub(crate) mod reload;
pub(crate) mod signals;
pub(crate) mod traces;
