//! Which partner is called: the real one, or the built-in simulated one.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::error::AppError;
use crate::adapters::plu_http::{PluHttp, PluHttpConfig};
use crate::clock::Clock;
use crate::config::{Settings, check_key_fits};
use crate::pipeline::Context;
use crate::pipeline::pace::Pace;
use crate::sandbox::{ModelConfig, Sandbox, SandboxConfig};
use crate::telemetry::Metrics;

/// What stands for the simulated API where a run is remembered: its port changes from start to start.
pub const SANDBOX_TARGET: &str = "sandbox";

/// The pipeline's shared parts, ready to work, and the sandbox that they talk to, if any.
pub struct Partner {
    /// For the worker.
    pub context: Arc<Context<PluHttp>>,
    /// Stops when it is dropped.
    pub sandbox: Option<Sandbox>,
}

/// Puts the pipeline's shared parts together. Nothing is sent yet.
///
/// # Errors
/// [`AppError::Usage`] where the API key is missing or doesn't fit the URL.
pub async fn connect(settings: &Settings, with_sandbox: bool, stop: CancellationToken) -> Result<Partner, AppError> {
    let (base_url, api_key, sandbox) = if with_sandbox {
        let sandbox = Sandbox::start(sandbox_config(settings))
            .await
            .map_err(|error| AppError::CannotGoOn(format!("the sandbox could not be started: {error}")))?;
        let url = Url::parse(&sandbox.base_url())
            .map_err(|error| AppError::CannotGoOn(format!("the sandbox has no address: {error}")))?;
        (url, ModelConfig::default().api_key, Some(sandbox))
    } else {
        (settings.api.url.clone(), api_key(settings)?, None)
    };
    let api = &settings.api;
    let config = PluHttpConfig {
        base_url,
        api_key,
        connect_timeout: Duration::from_secs(api.connect_timeout_s),
        timeout: Duration::from_secs(api.timeout_s),
        body_bytes_max: api.body_bytes_max,
        page_size: api.page_size,
        key_used: settings.key_used_marks(),
    };
    let http = PluHttp::new(config, Clock::System).map_err(AppError::Usage)?;
    let metrics = Metrics::new().map_err(|error| AppError::CannotGoOn(error.to_string()))?;
    // Differs from worker to worker, so that their jitters do too.
    let seed = Clock::System.now().unix_ms().unsigned_abs() ^ u64::from(std::process::id()) << 32;
    let pace = Pace::new(settings.rate());
    let context = Context::new(http, settings.policy(seed), pace, Clock::System, metrics, stop);
    Ok(Partner { context: Arc::new(context), sandbox })
}

/// What a queue is worked on against, as it is remembered: a base URL, or [`SANDBOX_TARGET`].
pub fn target(settings: &Settings, with_sandbox: bool) -> String {
    if with_sandbox { SANDBOX_TARGET.to_owned() } else { settings.api.url.as_str().trim_end_matches('/').to_owned() }
}

/// Refuses a missing or unfit key before anything else is done.
///
/// # Errors
/// [`AppError::Usage`].
pub fn api_key(settings: &Settings) -> Result<SecretString, AppError> {
    let usage = |error: crate::config::ApiKeyError| AppError::Usage(error.to_string());
    let (key, warnings) = settings.api_key().map_err(usage)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    check_key_fits(&settings.api.url, &key).map_err(usage)?;
    Ok(key.secret().clone())
}

/// The simulated API as the settings want it.
pub fn sandbox_config(settings: &Settings) -> SandboxConfig {
    let sandbox = &settings.sandbox;
    SandboxConfig {
        model: ModelConfig {
            key_ttl: Duration::from_secs(sandbox.key_ttl_s),
            rate_limit: (sandbox.rate_limit > 0).then_some(sandbox.rate_limit),
            seed: sandbox.seed,
            ..ModelConfig::default()
        },
        latency: Duration::from_millis(sandbox.latency_ms),
        ..SandboxConfig::default()
    }
}
