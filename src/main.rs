//! The `meanwhile` program.

use std::process::ExitCode;

use meanwhile::cli::Cli;

fn main() -> ExitCode {
    match Cli::from_process().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meanwhile: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
