//! The binary: reads the command line and hands it to the library.

use std::process::ExitCode;

use clap::Parser;
use plu_onboard::{app, cli};

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // reqwest is built without a provider of its own; the other one needs cmake and minutes to build.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(app::main(cli)),
        Err(error) => {
            app::error::print(&app::error::AppError::CannotGoOn(format!("no threads can be started: {error}")));
            ExitCode::from(1)
        }
    }
}
