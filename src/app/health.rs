//! `health`: asks a running worker how it is, for health checks in images that hold no other program that could.

use std::time::Duration;

use super::Finished;
use super::error::AppError;
use crate::cli::HealthArgs;

/// Longer than a worker that lives takes, shorter than the time limit of the usual health check (5 s).
const TIMEOUT: Duration = Duration::from_secs(4);

/// Asks once. [`Finished::NotAtAll`]: it answered, with a status other than 2xx.
///
/// # Errors
/// [`AppError::CannotGoOn`] where nothing answers in time.
pub async fn health(arguments: &HealthArgs) -> Result<Finished, AppError> {
    let url = &arguments.url;
    let fail = |error: reqwest::Error| {
        let why = if error.is_timeout() { "no answer in 4 s" } else { "nothing answers" };
        AppError::CannotGoOn(format!("{url}: {why}; is a worker running with --listen?"))
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()
        .map_err(fail)?;
    let answer = client.get(url.clone()).send().await.map_err(fail)?;
    print(&format!("{url}: {}\n", answer.status()));
    Ok(if answer.status().is_success() { Finished::Well } else { Finished::NotAtAll })
}

fn print(text: &str) {
    // Not print, which panics where nobody reads any more, as behind head.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}
