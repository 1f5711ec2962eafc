//! `threadline-serve`: the operator surface as a service of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    operator::serve::cli::main()
}
