//! The `meanwhile` program.

use std::process::ExitCode;

use meanwhile::cli::Cli;

fn main() -> ExitCode {
    let cli = match Cli::from_process() {
        Ok(cli) => cli,
        Err(usage) => {
            usage.print();
            return ExitCode::from(usage.exit_code());
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meanwhile: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
