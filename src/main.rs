//! The binary: reads the command line and hands it to the library.

use std::process::ExitCode;

use clap::Parser;
use plu_onboard::{app, cli};

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // reqwest is built without a provider of its own; the other one needs cmake and minutes to build.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match runtime() {
        // As a task: then the thread that does the work does this as well.
        Ok(runtime) => runtime.block_on(async { tokio::spawn(app::main(cli)).await.unwrap_or(ExitCode::FAILURE) }),
        Err(error) => {
            let error = app::error::AppError::CannotGoOn(format!("no threads can be started: {error}"));
            app::error::print(&error, false);
            ExitCode::from(1)
        }
    }
}

/// One thread for everything that waits; files, queues and brokers have threads of their own. Measured with a local broker
/// and API: handing a job from thread to thread costs more than working on it, and one thread does far more jobs in a
/// second than any partner takes.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}
