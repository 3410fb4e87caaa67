//! Test doubles and the simulation. Behind the feature `simulation`, so that no release holds them.

pub mod faulty;
pub mod memory;
pub(crate) mod message;
pub mod simulation;
