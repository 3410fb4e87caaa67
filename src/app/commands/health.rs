//! `health`: asks a running worker for its health. For health checks in containers that hold no HTTP client, and for
//! the operator who looks at their output.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::app::commands::CommandOutcome;
use crate::app::console::stdout::print;
use crate::app::error::AppError;
use crate::cli::HealthArgs;

/// Longer than a working worker needs, shorter than the usual time limit of a health check (5 s).
const TIMEOUT: Duration = Duration::from_secs(4);

/// Far more than the body of `/readyz`.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct ReadyzBody {
    state: String,
    reason: Option<String>,
    since: String,
    message: String,
    advice: Option<String>,
}

/// Runs the command: requests the given URL and `/readyz` of the same worker, and prints the answer of `/readyz`. A
/// status of the given URL other than 2xx is [`CommandOutcome::Stopped`].
///
/// # Errors
/// [`AppError::CannotContinue`] if nothing answers in time.
pub(crate) async fn health(arguments: &HealthArgs) -> Result<CommandOutcome, AppError> {
    let url = &arguments.url;
    let no_answer = |error: reqwest::Error| {
        let why = if error.is_timeout() { "no answer in 4 s" } else { "nothing answers" };
        AppError::CannotContinue(format!(
            "{url}: {why}: start the worker with --listen, or give its address with --url"
        ))
    };
    let client = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()
        .map_err(no_answer)?;
    let readyz_url = url.join("/readyz").ok().filter(|readyz| readyz.path() != url.path());
    let (answer, readyz) = tokio::join!(request(&client, url), async {
        match &readyz_url {
            Some(readyz_url) => request(&client, readyz_url).await.ok(),
            None => None,
        }
    });
    let (status, body) = answer.map_err(no_answer)?;
    print(&format!("{url}: {status}\n"));
    if let (Some(readyz_url), Some((status, Some(_)))) = (&readyz_url, &readyz) {
        print(&format!("{readyz_url}: {status}\n"));
    }
    if let Some(body) = body.or(readyz.and_then(|(_, body)| body)) {
        print(&body.text());
    }
    Ok(if status.is_success() { CommandOutcome::Success } else { CommandOutcome::Stopped })
}

/// The status, and the body if it is that of `/readyz`.
async fn request(client: &Client, url: &Url) -> reqwest::Result<(StatusCode, Option<ReadyzBody>)> {
    let mut response = client.get(url.clone()).send().await?;
    let mut body = Vec::new();
    while body.len() < BODY_BYTES_MAX
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok((response.status(), serde_json::from_slice(&body).ok()))
}

impl ReadyzBody {
    fn text(&self) -> String {
        let Self { state, reason, since, message, advice } = self;
        let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let advice = advice.as_ref().map(|advice| format!("What to do: {advice}\n")).unwrap_or_default();
        format!("{state}{reason} since {since}\n{message}\n{advice}")
    }
}
