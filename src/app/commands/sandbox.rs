//! `sandbox`: serves the simulated API, for sandbox runs and for tests of other programs.

use tokio::net::TcpListener;

use crate::app::commands::CommandOutcome;
use crate::app::console::stdout::print;
use crate::app::error::AppError;
use crate::app::service::logging::start_logging;
use crate::app::service::partner;
use crate::app::service::signals::stop_on_signal;
use crate::cli::SandboxArgs;
use crate::config::Settings;
use crate::sandbox::serve;

/// Runs the command until it is stopped.
///
/// # Errors
/// [`AppError`] where the address can't be used.
pub(crate) async fn sandbox(arguments: &SandboxArgs, settings: &Settings) -> Result<CommandOutcome, AppError> {
    start_logging(settings, "info", std::io::stderr)?;
    let address = arguments.listen;
    if !address.ip().is_loopback() && !arguments.allow_remote {
        return Err(AppError::Usage(format!(
            "--listen {address} can be reached by other machines, and the sandbox protects nothing: use a loopback \
             address, or add --allow-remote"
        )));
    }
    let cannot_bind = |error| AppError::Usage(format!("--listen {address}: {error}; give a free address"));
    let listener = TcpListener::bind(address).await.map_err(cannot_bind)?;
    let bound = listener.local_addr().map_err(cannot_bind)?;
    print_usage(&bound.to_string());
    serve(listener, partner::sandbox_config(settings), stop_on_signal(|| {})?)
        .await
        .map_err(|error| AppError::CannotContinue(format!("the sandbox has stopped: {error}")))?;
    Ok(CommandOutcome::Success)
}

fn print_usage(address: &str) {
    print(&format!(
        "simulated Plu API on http://{address}/api\n\
         its key is sk_staging_sandbox; what it received: http://{address}/stats\n\
         use it with: PLU_API_KEY=sk_staging_sandbox plu-onboard run FILE --api-url http://{address}/api\n"
    ));
}
