//! What the tests share: a folder to work in, the program, a partner that outlives it, customers and results.

mod broker;
mod customers;
mod partner;
mod place;
mod program;
mod results;

pub(crate) use broker::Broker;
pub(crate) use customers::{CustomerFile, customers};
pub(crate) use partner::{Partner, nth};
pub(crate) use place::{Place, sample};
pub(crate) use program::{Finished, Program, Running};
pub(crate) use results::{Results, Table};
