//! `threadline`: the audit timeline's own commands.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
