//! The binary: reads the command line and hands it to the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    plu_onboard::app::main(plu_onboard::cli::Cli::parse())
}
