//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::error::AppError;

/// A token that the first SIGINT or SIGTERM cancels. A second one ends the process with status 1: what was on
/// its way is known to the queue as sent.
///
/// # Errors
/// Where the system refuses the handlers.
pub fn stop_on_signal() -> Result<CancellationToken, AppError> {
    let register =
        |kind| signal(kind).map_err(|error| AppError::CannotGoOn(format!("signals can't be listened for: {error}")));
    let mut interrupt = register(SignalKind::interrupt())?;
    let mut terminate = register(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if token.is_cancelled() {
                std::process::exit(1);
            }
            tracing::info!("told to stop: finishing what is on its way; once more ends at once");
            token.cancel();
        }
    });
    Ok(stop)
}
