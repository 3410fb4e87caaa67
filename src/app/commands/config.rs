//! `config check` and `config show`.

use crate::app::commands::CommandOutcome;
use crate::app::console::stdout::print;
use crate::app::error::AppError;
use crate::app::service::logging::start_logging;
use crate::app::service::partner;
use crate::cli::ConfigArgs;
use crate::config::Settings;

/// Checks that the settings are consistent and that the API key fits the URL.
///
/// # Errors
/// [`AppError::Usage`] with what is wrong.
pub(crate) fn check(_arguments: &ConfigArgs, settings: &Settings) -> Result<CommandOutcome, AppError> {
    start_logging(settings, "warn", std::io::stderr)?;
    partner::api_key(settings)?;
    print("the settings are valid, and the API key is not one for another api.url; no request was sent with it\n");
    Ok(CommandOutcome::Success)
}

/// Prints the settings and where each comes from.
pub(crate) fn show(settings: &Settings) -> CommandOutcome {
    print(&settings.render_redacted());
    CommandOutcome::Success
}
