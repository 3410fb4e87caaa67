//! plu-onboard.

pub mod adapters;
pub mod clock;
pub mod domain;
pub mod pipeline;
pub mod ports;
pub mod sandbox;
pub mod telemetry;
