//! What the tests share: a working directory, the program as a process, the simulated partner, a RabbitMQ node,
//! customers, jobs and readers of results.

mod broker;
mod browser;
mod customers;
mod http;
mod jobs;
mod partner;
mod program;
mod proxy;
mod results;
mod small_disk;
mod test_dir;
mod tls_front;
mod tools;

pub(crate) use broker::{Broker, Received};
pub(crate) use browser::Browser;
pub(crate) use customers::{CustomerFile, customers, user};
pub(crate) use http::{HttpReply, get, open, request, request_with};
pub(crate) use jobs::{DEAD, UNROUTED, all_events, job, jobs, quick_partner, worker_at};
pub(crate) use partner::{Partner, nth};
pub(crate) use program::{Program, ProgramOutput, RunningProgram};
pub(crate) use proxy::Proxy;
pub(crate) use results::{Results, Table};
pub(crate) use small_disk::SmallDisk;
pub(crate) use test_dir::{TestDir, sample};
pub(crate) use tls_front::TlsFront;
pub(crate) use tools::{installed, python, root, run_tool};
