//! Confirmed publishing: outcomes, KYC events, and rows of a file.

pub mod kyc_events;
pub mod producer;
pub mod publisher;
pub(crate) mod refused_routes;
