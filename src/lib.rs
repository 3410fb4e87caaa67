//! plu-onboard.

pub mod domain;
pub mod pipeline;
pub mod ports;
pub mod telemetry;
