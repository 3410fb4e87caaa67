//! The commands: the only place where adapters are chosen and put together.

pub mod broker;
pub mod check;
pub mod checkpoint;
pub mod dead;
pub mod dead_view;
pub mod error;
pub mod health;
pub mod import;
pub mod import_amqp;
pub mod input_copy;
pub mod intake;
mod next_command;
pub mod ops;
pub mod partner;
pub mod progress;
pub mod purge;
pub mod reload;
pub mod report;
pub mod results;
pub mod rows;
pub mod run;
pub mod sandbox;
pub mod show;
pub mod signals;
mod stdout;
pub mod summary;
pub mod topology;
pub mod traces;
pub mod webhooks;
pub mod worker;

use std::process::ExitCode;

use tracing_subscriber::fmt::MakeWriter;

use self::error::AppError;
use crate::adapters::csv::{Delimiter, ReadOptions};
use crate::cli::{Cli, Command, ConfigCommand, CsvArgs};
use crate::config::{Overrides, Settings, environment};
use crate::telemetry::Metrics;
use crate::telemetry::logging::{self, LogFormat};

/// Starts logging as the settings want it; `filter` holds where they say nothing.
fn start_logging<W>(settings: &Settings, filter: &str, writer: W) -> Result<(), AppError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = if settings.log.filter.is_empty() { filter } else { &settings.log.filter };
    logging::start(settings.log.format, filter, writer).map_err(AppError::Usage)
}

/// Nobody scrapes a command that ends; they are counted all the same.
fn metrics() -> Result<Metrics, AppError> {
    Metrics::new().map_err(|error| AppError::CannotGoOn(error.to_string()))
}

/// How a file is to be read.
fn read_options(flags: &CsvArgs, settings: &Settings) -> ReadOptions {
    ReadOptions {
        encoding: flags.encoding,
        delimiter: flags.delimiter.and_then(|byte| Delimiter::ALL.into_iter().find(|known| known.byte() == byte)),
        record_bytes_max: settings.import.record_bytes_max,
    }
}

/// How a command that could do its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// Status 0.
    Well,
    /// Status 1: it could not go on.
    NotAtAll,
    /// Status 3: finished, and some rows were rejected or failed.
    WithRejects,
}

fn load(command: &Command) -> Result<Settings, AppError> {
    let file = command.common().config.as_deref();
    Settings::load(file, environment(), &Overrides::from(command)).map_err(|error| AppError::Usage(error.to_string()))
}

/// Whether errors are for machines, as far as that can be said where the settings can't be read.
fn speaks_json(command: &Command, settings: Option<&Settings>) -> bool {
    match settings {
        Some(settings) => settings.log.format == LogFormat::Json,
        None => {
            let variable = || std::env::var("PLU_ONBOARD__LOG__FORMAT").ok();
            command.common().log_format.clone().or_else(variable).is_some_and(|format| format == "json")
        }
    }
}

async fn execute(command: Command, settings: Settings) -> Result<Finished, AppError> {
    match command {
        Command::Run(arguments) => run::run(&arguments, settings).await,
        Command::Check(arguments) => check::check(&arguments, settings).await,
        Command::Import(arguments) => import::import(arguments, settings).await,
        Command::Worker(arguments) => worker::worker(&arguments, settings).await,
        Command::Webhooks(arguments) => webhooks::webhooks(&arguments, settings).await,
        Command::Dead(command) => dead::dead(&command, &settings).await,
        Command::Sandbox(arguments) => sandbox::sandbox(&arguments, &settings).await,
        Command::Purge(arguments) => purge::purge(&arguments, &settings),
        Command::Health(arguments) => health::health(&arguments).await,
        Command::Topology(_) => topology::topology(&settings),
        Command::Config(ConfigCommand::Check(arguments)) => show::check(&arguments, &settings),
        Command::Config(ConfigCommand::Show(_)) => Ok(show::show(&settings)),
    }
}

/// Runs one command and says how the process exits.
pub async fn main(cli: Cli) -> ExitCode {
    let command = cli.command;
    let loaded = load(&command);
    let as_json = speaks_json(&command, loaded.as_ref().ok());
    let finished = match loaded {
        Ok(settings) => execute(command, settings).await,
        Err(error) => Err(error),
    };
    match finished.and_then(|finished| stdout::is_whole().map(|()| finished)) {
        Ok(Finished::Well) => ExitCode::SUCCESS,
        Ok(Finished::NotAtAll) => ExitCode::from(1),
        Ok(Finished::WithRejects) => ExitCode::from(3),
        Err(error) => {
            error::print(&error, as_json);
            ExitCode::from(match error {
                AppError::CannotGoOn(_) => 1,
                AppError::Usage(_) => 2,
            })
        }
    }
}
