//! One module for each command.

pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod dead;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod purge;
pub(crate) mod run;
pub(crate) mod sandbox;
pub(crate) mod topology;
pub(crate) mod webhooks;
pub(crate) mod worker;
