//! One module for each command. Each takes its arguments and the settings, and returns a [`CommandOutcome`] or an
//! error.

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

use std::process::ExitCode;

use crate::app::error::AppError;
use crate::cli::{CliCommand, ConfigCommand};
use crate::config::Settings;

/// How a command ended that had no error. Each has its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandOutcome {
    /// Status 0: done, and no row was rejected or failed.
    Success,
    /// Status 1: it stopped before the end; what it printed says why and how to resume.
    Stopped,
    /// Status 3: done, and some rows were rejected or failed.
    WithRejectedRows,
}

impl CommandOutcome {
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Success => ExitCode::SUCCESS,
            Self::Stopped => ExitCode::FAILURE,
            Self::WithRejectedRows => ExitCode::from(3),
        }
    }
}

/// Runs one command.
///
/// # Errors
/// [`AppError`] of the command.
pub(crate) async fn execute(command: CliCommand, settings: Settings) -> Result<CommandOutcome, AppError> {
    match command {
        CliCommand::Run(arguments) => run::run(&arguments, settings).await,
        CliCommand::Check(arguments) => check::check(&arguments, settings).await,
        CliCommand::Import(arguments) => import::import(arguments, settings).await,
        CliCommand::Worker(arguments) => worker::worker(&arguments, settings).await,
        CliCommand::Webhooks(arguments) => webhooks::webhooks(&arguments, settings).await,
        CliCommand::Dead(command) => dead::dead(&command, &settings).await,
        CliCommand::Sandbox(arguments) => sandbox::sandbox(&arguments, &settings).await,
        CliCommand::Purge(arguments) => purge::purge(&arguments, &settings),
        CliCommand::Health(arguments) => health::health(&arguments).await,
        CliCommand::Topology(_) => topology::topology(&settings),
        CliCommand::Config(ConfigCommand::Check(arguments)) => config::check(&arguments, &settings),
        CliCommand::Config(ConfigCommand::Show(_)) => Ok(config::show(&settings)),
    }
}
