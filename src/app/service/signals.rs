//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::console::error::AppError;

/// Signals this close together are one wish: some tools signal the process and then its group.
const ONE_WISH: Duration = Duration::from_millis(100);

/// A token that the first SIGINT or SIGTERM cancels, after `announce`. A second one ends the process with status 1: what was on
/// its way is known to the queue as sent.
///
/// # Errors
/// Where the system refuses the handlers.
pub(crate) fn stop_on_signal(announce: impl Fn() + Send + 'static) -> Result<CancellationToken, AppError> {
    let register = |kind| {
        signal(kind).map_err(|error| AppError::CannotContinue(format!("signals can't be listened for: {error}")))
    };
    let mut interrupt = register(SignalKind::interrupt())?;
    let mut terminate = register(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            match first {
                Some(at) if at.elapsed() > ONE_WISH => std::process::exit(1),
                Some(_) => {}
                None => {
                    first = Some(Instant::now());
                    announce();
                    token.cancel();
                }
            }
        }
    });
    Ok(stop)
}
