//! What the tests share: a folder to work in, the program, a partner that outlives it, customers and results.

mod broker;
mod browser;
mod customers;
mod http;
mod jobs;
mod partner;
mod place;
mod program;
mod proxy;
mod results;
mod tools;

pub(crate) use broker::{Broker, Received};
pub(crate) use browser::Browser;
pub(crate) use customers::{CustomerFile, customers};
pub(crate) use http::{Reply, get, open, request, request_with};
pub(crate) use jobs::{DEAD, UNROUTED, all_events, job, jobs, quick_partner, worker_at};
pub(crate) use partner::{Partner, nth};
pub(crate) use place::{Place, sample};
pub(crate) use program::{Finished, Program, Running};
pub(crate) use proxy::Proxy;
pub(crate) use results::{Results, Table};
pub(crate) use tools::{installed, python, root, run_tool};
