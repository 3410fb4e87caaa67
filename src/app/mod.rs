//! The commands: the only place where adapters are chosen and put together.

pub(crate) mod commands;
pub(crate) mod console;
pub(crate) mod input;
pub(crate) mod ops;
pub(crate) mod results;
pub(crate) mod service;

use std::process::ExitCode;

use tracing_subscriber::fmt::MakeWriter;

use self::commands::{check, config, dead, health, import, purge, run, sandbox, topology, webhooks, worker};
use self::console::error::AppError;
use self::console::{error, stdout};
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
    Metrics::new().map_err(|error| AppError::CannotContinue(error.to_string()))
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
        Command::Config(ConfigCommand::Check(arguments)) => config::check(&arguments, &settings),
        Command::Config(ConfigCommand::Show(_)) => Ok(config::show(&settings)),
    }
}

/// Runs one command and returns the process's exit status.
pub fn main(cli: Cli) -> ExitCode {
    // reqwest is built without a TLS provider of its own: the one it would choose needs cmake and minutes to build.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match runtime() {
        // Spawned, so that commands run on the worker thread instead of the main thread.
        Ok(runtime) => runtime.block_on(async { tokio::spawn(run_command(cli)).await.unwrap_or(ExitCode::FAILURE) }),
        Err(error) => {
            error::print(&AppError::CannotContinue(format!("no threads can be started: {error}")), false);
            ExitCode::from(1)
        }
    }
}

/// One worker thread for everything asynchronous; files, queues and brokers have threads of their own. With a local
/// broker and API, handing a job from thread to thread costs more than the work on it, and one thread does far more
/// jobs a second than any partner accepts.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

async fn run_command(cli: Cli) -> ExitCode {
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
                AppError::CannotContinue(_) => 1,
                AppError::Usage(_) => 2,
            })
        }
    }
}
