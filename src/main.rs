//! The binary: parses the command line and calls the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    plu_onboard::app::main(plu_onboard::cli::Cli::parse())
}
