//! SIGINT and SIGTERM: the first stops the command in an orderly way, the second exits at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::error::AppError;

/// Signals this close together count as one: some tools signal the process and then its group.
const SAME_SIGNAL_WITHIN: Duration = Duration::from_millis(100);

/// A token that the first SIGINT or SIGTERM cancels, after calling `announce`. A second one exits with status 1. No
/// user is lost then: the queue has recorded which jobs were sent.
///
/// # Errors
/// Where the handlers can't be registered.
pub(crate) fn stop_on_signal(announce: impl Fn() + Send + 'static) -> Result<CancellationToken, AppError> {
    let register = |kind| {
        signal(kind)
            .map_err(|error| AppError::CannotContinue(format!("the signal handlers can't be registered: {error}")))
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
                Some(at) if at.elapsed() > SAME_SIGNAL_WITHIN => std::process::exit(1),
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
