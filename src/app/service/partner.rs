//! Puts together the pipeline's shared parts, for the real API or the built-in sandbox.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::adapters::local_queue::report;
use crate::adapters::plu_http::{self, PluHttp, PluHttpConfig};
use crate::app::error::AppError;
use crate::app::service::limits::check_open_files;
use crate::app::service::logging::new_metrics;
use crate::app::service::reload::reload_on_hangup;
use crate::app::service::traces::Traces;
use crate::clock::Clock;
use crate::config::{ApiKey, Settings, check_key_fits};
use crate::domain::KeySource;
use crate::pipeline::guards::halt::{HaltAction, HaltPolicy};
use crate::pipeline::rate::rate_limiter::RateLimiter;
use crate::pipeline::{Context, PipelinePolicy};
use crate::sandbox::{ModelConfig, Sandbox, SandboxConfig};

/// The target on record for the sandbox, whose port changes from start to start.
pub(crate) const SANDBOX_TARGET: &str = "sandbox";

/// The pipeline's shared parts, ready to work, and the sandbox that they call, if any.
pub(crate) struct ConnectedPartner {
    pub context: Arc<Context<PluHttp>>,
    #[expect(dead_code, reason = "stops when it is dropped")]
    pub sandbox: Option<Sandbox>,
    #[expect(dead_code, reason = "handles SIGHUP until it is dropped")]
    pub reload: AbortOnDropHandle<()>,
    /// To be finished after the work.
    pub traces: Traces,
}

/// When a command halts, and what it does then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HaltOptions {
    pub halt_action: HaltAction,
    /// Whether the queue may lose the record that a job was delivered.
    pub queue_forgets: bool,
    /// Rows that are sent first; the others wait for their outcomes. 0: no canary.
    pub canary: usize,
    /// Never halts on the share of rejected or existing rows, or of lost links.
    pub yes: bool,
}

impl HaltOptions {
    /// The command that has this halt action.
    const fn command(self) -> &'static str {
        match self.halt_action {
            HaltAction::Stop => "run",
            HaltAction::HoldBulk => "worker",
        }
    }

    fn apply(self, policy: PipelinePolicy) -> PipelinePolicy {
        let Self { halt_action, queue_forgets, canary, yes } = self;
        let never = |share| if yes { 1.0 } else { share };
        let halt = HaltPolicy {
            halt_action,
            queue_forgets,
            canary,
            rejected_share: never(policy.halt.rejected_share),
            existing_share: never(policy.halt.existing_share),
            lost_link_share: never(policy.halt.lost_link_share),
            ..policy.halt
        };
        PipelinePolicy { halt, ..policy }
    }
}

/// Puts the shared parts together. Sends nothing yet.
///
/// # Errors
/// [`AppError::Usage`] where the API key is missing or doesn't fit the URL, or too few files may be open.
pub(crate) async fn connect(
    settings: &Settings,
    with_sandbox: bool,
    halting: HaltOptions,
    stop: CancellationToken,
) -> Result<ConnectedPartner, AppError> {
    check_open_files(settings.worker.concurrency)?;
    let (base_url, api_key, sandbox) = if with_sandbox {
        let sandbox = Sandbox::start(sandbox_config(settings))
            .await
            .map_err(|error| AppError::CannotContinue(format!("the sandbox could not be started: {error}")))?;
        let url = Url::parse(&sandbox.base_url())
            .map_err(|error| AppError::CannotContinue(format!("the sandbox has no address: {error}")))?;
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
        body_bytes_max: plu_http::BODY_BYTES_MAX,
        refusals: settings.refusal_marks(),
        clock_skew: Duration::from_secs(api.clock_skew_s),
    };
    let metrics = new_metrics()?;
    metrics.set_started(halting.command(), Clock::System.now());
    metrics.health.set_key_source(if with_sandbox { KeySource::Sandbox } else { settings.key_source() });
    let http = PluHttp::new(config, Clock::System, metrics.clone()).map_err(AppError::Usage)?;
    // Differs between workers, so that their retries don't coincide.
    let seed = Clock::System.now().unix_ms().unsigned_abs() ^ u64::from(std::process::id()) << 32;
    let traces = Traces::start(&metrics, seed)?;
    let rate_limiter = RateLimiter::with(settings.rate_limit());
    rate_limiter.report_to(metrics.clone());
    let policy = halting.apply(settings.policy(seed));
    let mut context = Context::new(http, policy, rate_limiter, Clock::System, metrics, stop);
    context.link_ttl = settings.link_ttl();
    let context = Arc::new(context);
    let reload = reload_on_hangup(settings, with_sandbox, &context)?;
    Ok(ConnectedPartner { context, sandbox, reload, traces })
}

/// Restores the number of users created in the last 24 hours from an embedded queue, if `rate_limit.per_day` is set.
///
/// # Errors
/// Where the queue can't be read.
pub(crate) fn restore_daily_count(
    settings: &Settings,
    context: &Context<PluHttp>,
    connection: &Connection,
    queue: &Path,
) -> Result<(), AppError> {
    if settings.rate_limit.per_day > 0 {
        let since = Clock::System.now().minus(Duration::from_secs(86_400));
        for (at, users) in report::created_since(connection, queue, since)? {
            context.rate_limiter.remember_created(at, users);
        }
    }
    Ok(())
}

/// The API as a queue records it: its base URL, or [`SANDBOX_TARGET`].
pub(crate) fn target(settings: &Settings, with_sandbox: bool) -> String {
    if with_sandbox { SANDBOX_TARGET.to_owned() } else { settings.api.url.as_str().trim_end_matches('/').to_owned() }
}

/// Checks that there is an API key and that it fits the URL.
///
/// # Errors
/// [`AppError::Usage`] where it is missing or is for another API.
pub(crate) fn check_api_key(settings: &Settings) -> Result<(), AppError> {
    load_api_key(settings).map(drop)
}

/// The API key. Logs warnings about it.
///
/// # Errors
/// Those of [`check_api_key`].
pub(crate) fn api_key(settings: &Settings) -> Result<SecretString, AppError> {
    let (key, warnings) = load_api_key(settings)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(key.secret().clone())
}

fn load_api_key(settings: &Settings) -> Result<(ApiKey, Vec<String>), AppError> {
    let usage = |error: crate::config::ApiKeyError| AppError::Usage(error.to_string());
    let (key, warnings) = settings.api_key().map_err(usage)?;
    check_key_fits(&settings.api.url, &key).map_err(usage)?;
    Ok((key, warnings))
}

pub(crate) fn sandbox_config(settings: &Settings) -> SandboxConfig {
    let sandbox = &settings.sandbox;
    SandboxConfig {
        model: ModelConfig {
            key_ttl: Duration::from_secs(sandbox.key_ttl_s),
            rate_limit: (sandbox.rate_limit > 0).then_some(sandbox.rate_limit),
            seed: sandbox.seed,
            ..ModelConfig::default()
        },
        latency: Duration::from_millis(sandbox.latency_ms),
        faults: sandbox.faults.clone(),
        ..SandboxConfig::default()
    }
}
