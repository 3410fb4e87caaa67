//! Starts logging and metrics for a command.

use tracing_subscriber::fmt::MakeWriter;

use crate::app::error::AppError;
use crate::config::Settings;
use crate::telemetry::Metrics;
use crate::telemetry::logging;

/// Starts logging to `writer` as the settings say. `default_filter` applies where `log.filter` is empty.
///
/// # Errors
/// [`AppError::Usage`] where the filter can't be parsed.
pub(crate) fn start_logging<W>(settings: &Settings, default_filter: &str, writer: W) -> Result<(), AppError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = if settings.log.filter.is_empty() { default_filter } else { &settings.log.filter };
    logging::start(settings.log.format, filter, writer).map_err(AppError::Usage)
}

/// An empty set of metrics. Commands that serve none need one too, because events are counted in it.
///
/// # Errors
/// [`AppError::CannotContinue`] where a metric can't be registered.
pub(crate) fn new_metrics() -> Result<Metrics, AppError> {
    Metrics::new().map_err(|error| AppError::CannotContinue(error.to_string()))
}
