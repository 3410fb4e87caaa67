//! What operators use: page, metrics, health, reload, webhooks, purge, deployment.

mod deploy;
mod images;
mod metrics;
mod privacy;
mod purge;
mod ready;
mod reload;
mod status_page;
mod traces;
mod webhooks;
