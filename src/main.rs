//! The `meanwhile` program.

use std::process::ExitCode;

use clap::Parser;
use meanwhile::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meanwhile: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
