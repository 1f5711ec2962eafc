//! `publisher`: carries committed audit rows from the outbox log to JetStream.

use std::process::ExitCode;

fn main() -> ExitCode {
    publisher::cli::main()
}
