//! SIGHUP: reads the settings and the API key again, and resumes a paused or halted worker at once.
//!
//! A running worker applies the API key and the rate limit (`[rate_limit]`, `worker.bulk_share_percent`); all other
//! settings need a restart. Invalid settings change nothing. A SIGHUP because the terminal was closed stops the
//! command.

use std::fs::File;
use std::io::IsTerminal;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use crate::adapters::plu_http::PluHttp;
use crate::app::error::AppError;
use crate::config::{Settings, check_key_fits};
use crate::pipeline::Context;
use crate::telemetry::SettingsReloaded;

/// Handles SIGHUP until the result is dropped.
///
/// # Errors
/// Where the handler can't be registered.
pub(crate) fn reload_on_hangup(
    settings: &Settings,
    with_sandbox: bool,
    context: &Arc<Context<PluHttp>>,
) -> Result<AbortOnDropHandle<()>, AppError> {
    let mut hangups: Signal = signal(SignalKind::hangup())
        .map_err(|error| AppError::CannotContinue(format!("the signal handler can't be registered: {error}")))?;
    let has_terminal = std::io::stderr().is_terminal();
    let (settings, context) = (settings.clone(), Arc::clone(context));
    let task = tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if has_terminal && File::open("/dev/tty").is_err() {
                context.stop.cancel();
                continue;
            }
            let result = match reload(&settings, with_sandbox, &context) {
                Ok(applied) => applied,
                Err(reason) => SettingsReloaded::Refused { reason },
            };
            result.emit(&context.metrics);
        }
    });
    Ok(AbortOnDropHandle::new(task))
}

fn reload(settings: &Settings, with_sandbox: bool, context: &Context<PluHttp>) -> Result<SettingsReloaded, String> {
    let new = settings.reload().map_err(|error| one_line(&error))?;
    let mut is_key_new = false;
    if !with_sandbox {
        let (key, warnings) = new.api_key().map_err(|error| one_line(&error))?;
        // The URL needs a restart, so the key must fit the URL in use.
        check_key_fits(&settings.api.url, &key).map_err(|error| one_line(&error))?;
        is_key_new = context.api.set_api_key(key.secret())?;
        context.metrics.health.set_key_source(new.key_source());
        for warning in warnings {
            tracing::warn!("{warning}");
        }
    }
    context.rate_limiter.set(new.rate_limit());
    let was_halted = context.resume();
    Ok(SettingsReloaded::Applied { is_key_new, rate: new.rate(), was_halted })
}

fn one_line(error: &dyn std::error::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
