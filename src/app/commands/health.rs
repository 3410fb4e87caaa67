//! `health`: asks a running worker how it is, for health checks in images that hold no other program that could, and for
//! the person who looks at what they said.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::app::Finished;
use crate::app::console::error::AppError;
use crate::app::console::stdout::print;
use crate::cli::HealthArgs;

/// Longer than a worker that lives takes, shorter than the time limit of the usual health check (5 s).
const TIMEOUT: Duration = Duration::from_secs(4);

/// Far more than a worker has to say.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What `/readyz` says.
#[derive(Deserialize)]
struct Said {
    state: String,
    reason: Option<String>,
    since: String,
    message: String,
    advice: Option<String>,
}

/// Asks once, and `/readyz` of the same worker too, for its words: only what was asked counts.
/// [`Finished::NotAtAll`]: it answered, with a status other than 2xx.
///
/// # Errors
/// [`AppError::CannotContinue`] where nothing answers in time.
pub(crate) async fn health(arguments: &HealthArgs) -> Result<Finished, AppError> {
    let url = &arguments.url;
    let fail = |error: reqwest::Error| {
        let why = if error.is_timeout() { "no answer in 4 s" } else { "nothing answers" };
        AppError::CannotContinue(format!("{url}: {why}; is a worker running with --listen?"))
    };
    let client = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()
        .map_err(fail)?;
    let ready = url.join("/readyz").ok().filter(|ready| ready.path() != url.path());
    let (asked, beside) = tokio::join!(ask(&client, url), async {
        match &ready {
            Some(ready) => ask(&client, ready).await.ok(),
            None => None,
        }
    });
    let (status, said) = asked.map_err(fail)?;
    print(&format!("{url}: {status}\n"));
    if let (Some(ready), Some((status, Some(_)))) = (&ready, &beside) {
        print(&format!("{ready}: {status}\n"));
    }
    if let Some(said) = said.or(beside.and_then(|(_, said)| said)) {
        print(&said.text());
    }
    Ok(if status.is_success() { Finished::Well } else { Finished::NotAtAll })
}

/// The status, and what was said if it was the words of a worker.
async fn ask(client: &Client, url: &Url) -> reqwest::Result<(StatusCode, Option<Said>)> {
    let mut answer = client.get(url.clone()).send().await?;
    let mut body = Vec::new();
    while body.len() < BODY_BYTES_MAX
        && let Some(chunk) = answer.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status(), serde_json::from_slice(&body).ok()))
}

impl Said {
    fn text(&self) -> String {
        let Self { state, reason, since, message, advice } = self;
        let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let advice = advice.as_ref().map(|advice| format!("What to do: {advice}\n")).unwrap_or_default();
        format!("{state}{reason} since {since}\n{message}\n{advice}")
    }
}
