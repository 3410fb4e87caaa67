//! The pipeline on paused time, with a scripted partner and a queue in memory.

mod account;
mod bulk_hold;
mod delivery;
mod fixture;
mod halt;
mod identical_jobs;
mod lanes;
mod limits;
mod look_up;
mod lost_answer;
mod outage;
mod outcomes;
mod outliers;
mod shutdown;
mod sources;
