//! `consumer`: carries references from JetStream, or entries of the log, to the configured forwarders.

use std::process::ExitCode;

use consumer::{cli, forwarder::Registry};

fn main() -> ExitCode {
    cli::main(Registry::with_built_in())
}
