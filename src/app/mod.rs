//! The program behind the command line: the only place where adapters are chosen and put together.
//!
//! [`main`] loads the settings, runs one command of `commands`, prints its error if it has one, and returns the
//! process's exit status.
//!
//! | module | what is in it |
//! | --- | --- |
//! | `commands` | one module for each command |
//! | `console` | what is printed at the terminal: results, progress, the next command |
//! | `error` | the error that ends a command, with its exit status |
//! | `input` | from the rows of a customer file to jobs |
//! | `results` | what a run writes: result files, `summary.json`, `report.html` |
//! | `service` | what long-running commands share: partner, broker, signals, reloading, logging |
//! | `ops` | `--listen`: status page, metrics, health |

pub(crate) mod commands;
pub(crate) mod console;
pub(crate) mod error;
pub(crate) mod input;
pub(crate) mod ops;
pub(crate) mod results;
pub(crate) mod service;

use std::process::ExitCode;

use self::console::stdout;
use self::error::AppError;
use self::service::limits::raise_open_files;
use crate::cli::Cli;
use crate::config::{Overrides, Settings, environment};
use crate::telemetry::logging::LogFormat;

/// Runs one command and returns the process's exit status.
pub fn main(cli: Cli) -> ExitCode {
    // reqwest is built without a TLS provider of its own: its default needs cmake and minutes to build.
    let _ = rustls::crypto::ring::default_provider().install_default();
    raise_open_files();
    match runtime() {
        // Spawned, so that commands run on the worker thread instead of the main thread.
        Ok(runtime) => runtime.block_on(async { tokio::spawn(run_command(cli)).await.unwrap_or(ExitCode::FAILURE) }),
        Err(error) => {
            let error = AppError::CannotContinue(format!("no threads can be started: {error}"));
            error::print(&error, false);
            error.exit_code()
        }
    }
}

/// One worker thread for everything asynchronous; files, queues and brokers have threads of their own. With a local
/// broker and API, handing a job from thread to thread costs more than the work on it, and one thread processes far
/// more jobs a second than the partner accepts.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

async fn run_command(cli: Cli) -> ExitCode {
    let loaded = load_settings(&cli);
    let as_json = errors_as_json(&cli, loaded.as_ref().ok());
    let outcome = match loaded {
        Ok(settings) => commands::execute(cli.command, settings).await,
        Err(error) => Err(error),
    };
    match outcome.and_then(|outcome| stdout::check_complete().map(|()| outcome)) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            error::print(&error, as_json);
            error.exit_code()
        }
    }
}

fn load_settings(cli: &Cli) -> Result<Settings, AppError> {
    let file = cli.general.config.as_deref();
    Settings::load(file, environment(), &Overrides::from(cli)).map_err(|error| AppError::Usage(error.to_string()))
}

/// Whether errors are printed as JSON. Without settings, which may be what the error is about, only the flag and the
/// environment variable are looked at.
fn errors_as_json(cli: &Cli, settings: Option<&Settings>) -> bool {
    match settings {
        Some(settings) => settings.log.format == LogFormat::Json,
        None => {
            let variable = || std::env::var("PLU_ONBOARD__LOG__FORMAT").ok();
            cli.general.log_format.clone().or_else(variable).is_some_and(|format| format == "json")
        }
    }
}
