//! `config check` and `config show`.

use crate::app::console::error::AppError;
use crate::app::console::stdout::print;
use crate::app::service::partner;
use crate::app::{Finished, start_logging};
use crate::cli::ConfigArgs;
use crate::config::Settings;

/// Checks that the settings hold together and that the API key fits the URL.
///
/// # Errors
/// [`AppError::Usage`] with what is wrong.
pub(crate) fn check(_arguments: &ConfigArgs, settings: &Settings) -> Result<Finished, AppError> {
    start_logging(settings, "warn", std::io::stderr)?;
    partner::api_key(settings)?;
    print("the settings are right, and there is an API key that is not for another api.url; it was not tried\n");
    Ok(Finished::Well)
}

/// Prints the settings and where each comes from.
pub(crate) fn show(settings: &Settings) -> Finished {
    print(&settings.render_redacted());
    Finished::Well
}
