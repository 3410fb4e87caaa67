//! `sandbox`: the simulated API, for rehearsals and for other programs' tests.

use tokio::net::TcpListener;

use crate::app::console::error::AppError;
use crate::app::console::stdout::print;
use crate::app::service::partner;
use crate::app::service::signals::stop_on_signal;
use crate::app::{Finished, start_logging};
use crate::cli::SandboxArgs;
use crate::config::Settings;
use crate::sandbox::serve;

/// Serves until told to stop.
///
/// # Errors
/// [`AppError`] where the address can't be used.
pub(crate) async fn sandbox(arguments: &SandboxArgs, settings: &Settings) -> Result<Finished, AppError> {
    start_logging(settings, "info", std::io::stderr)?;
    let address = arguments.listen;
    if !address.ip().is_loopback() && !arguments.allow_remote {
        return Err(AppError::Usage(format!(
            "--listen {address} can be reached by other machines, and the sandbox guards nothing: \
             use a loopback address, or add --allow-remote"
        )));
    }
    let bind = |error| AppError::CannotContinue(format!("--listen {address}: {error}; give another address"));
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let bound = listener.local_addr().map_err(bind)?;
    announce(&bound.to_string());
    serve(listener, partner::sandbox_config(settings), stop_on_signal(|| {})?)
        .await
        .map_err(|error| AppError::CannotContinue(format!("the sandbox has stopped: {error}")))?;
    Ok(Finished::Well)
}

fn announce(address: &str) {
    print(&format!(
        "simulated Plu API on http://{address}/api\n\
         its key is sk_staging_sandbox; what it saw: http://{address}/stats\n\
         use it with: PLU_API_KEY=sk_staging_sandbox plu-onboard run FILE --api-url http://{address}/api\n"
    ));
}
