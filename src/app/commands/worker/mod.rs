//! `worker`: processes the jobs of a queue until it is stopped: [`embedded`] or [`rabbitmq`].

mod embedded;
mod rabbitmq;

use url::Url;

use crate::app::commands::CommandOutcome;
use crate::app::error::AppError;
use crate::app::service::broker::{self, SANDBOX_PREFIX_ENDING, is_sandbox_prefix};
use crate::app::service::logging::start_logging;
use crate::app::service::partner::{self, HaltOptions};
use crate::app::service::signals::stop_on_signal;
use crate::cli::WorkerArgs;
use crate::config::{QueueUrl, STAGING_HOST, Settings, is_loopback};
use crate::pipeline::guards::halt::HaltAction;
use crate::pipeline::worker::WorkerEnd;
use crate::telemetry::logging;

/// Runs the command.
///
/// # Errors
/// [`AppError`] where the settings, the queue or the API key can't be used, or the queue fails.
pub(crate) async fn worker(arguments: &WorkerArgs, settings: Settings) -> Result<CommandOutcome, AppError> {
    let (log, _flushed_when_dropped) = logging::stderr_writer();
    start_logging(&settings, "info", log)?;
    if matches!(settings.queue.url, QueueUrl::Amqp(_)) {
        refuse_jobs_of_other_api(arguments, &settings)?;
        broker::refuse_out_folder(arguments.out.out.as_deref(), &settings)?;
    }
    if !arguments.service.sandbox {
        // Before anything is opened: without a key, the worker would only fail at its first request.
        partner::check_api_key(&settings)?;
    }
    let stop = stop_on_signal(|| {
        tracing::info!("stopping: finishing the requests in flight; a second signal exits at once");
    })?;
    let ended = match &settings.queue.url {
        QueueUrl::Local(queue) => embedded::work_until_stopped(arguments, &settings, queue, stop).await?,
        QueueUrl::Amqp(broker) => rabbitmq::work_until_stopped(arguments, &settings, broker, stop).await?,
    };
    match ended {
        WorkerEnd::CutOff { jobs } => {
            tracing::warn!(jobs, "stopped with requests in flight; their users will be looked up");
        }
        WorkerEnd::Stopped | WorkerEnd::Drained => tracing::info!("stopped; every unfinished job is on the queue"),
    }
    Ok(CommandOutcome::Success)
}

/// Refuses to send the jobs of a sandbox run to the real API, and real jobs to the sandbox. Only for RabbitMQ: an
/// embedded queue records which API its jobs are for.
fn refuse_jobs_of_other_api(arguments: &WorkerArgs, settings: &Settings) -> Result<(), AppError> {
    let prefix = &settings.amqp.prefix;
    match (arguments.service.sandbox, is_sandbox_prefix(prefix)) {
        (false, true) if !is_free_of_charge(&settings.api.url) => {
            return Err(AppError::Usage(format!(
                "amqp.prefix ({prefix}) says that these jobs are those of a sandbox run, and this worker would send \
                 them to {}: give --sandbox, or the amqp.prefix of the real jobs",
                settings.api.url.host_str().unwrap_or_default(),
            )));
        }
        (true, false) => {}
        _ => return Ok(()),
    }
    Err(AppError::Usage(format!(
        "with --sandbox, this worker would take the jobs of {prefix} from RabbitMQ and publish outcomes of users that \
         don't exist: give the sandbox run, and what publishes its jobs, an amqp.prefix that ends with \
         {SANDBOX_PREFIX_ENDING}, for example PLU_ONBOARD__AMQP__PREFIX={prefix}.{SANDBOX_PREFIX_ENDING}",
    )))
}

/// Whether the API creates no real users: the partner's staging, or a server on this machine.
fn is_free_of_charge(api: &Url) -> bool {
    api.host_str() == Some(STAGING_HOST) || is_loopback(api)
}

fn halt_options(arguments: &WorkerArgs, queue_forgets: bool) -> HaltOptions {
    HaltOptions { halt_action: HaltAction::HoldBulk, queue_forgets, canary: 0, yes: arguments.service.yes }
}
