//! Hands over to `threadline-serve`, which is a binary of its own: whoever only asks from a terminal needs no web server.

use std::{
    env,
    ffi::OsString,
    io::{Error, ErrorKind},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::answer::{Answer, Failure};

const BINARY: &str = "threadline-serve";

/// The arguments of `threadline serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What `threadline-serve` takes; `threadline serve --help` shows it.
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Becomes that binary; returns only where it is missing or cannot be started.
pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let beside = env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
    // Beside this one first: both are of one version.
    let candidates = beside.iter().map(|folder| folder.join(BINARY)).chain([PathBuf::from(BINARY)]);
    for program in candidates {
        let error = Command::new(&program).args(&arguments.arguments).exec();
        if error.kind() != ErrorKind::NotFound {
            return Err(not_started(&program, &error));
        }
    }
    let beside = beside.map_or_else(String::new, |folder| format!(" ({})", folder.display()));
    Err(Failure::Misused(format!(
        "the pages are served by a binary of its own, {BINARY}, which is neither beside this one{beside} nor in a folder of PATH: install it there (it is built with \
         `cargo build --release --package operator`, and the image and `make dist` have it)"
    )))
}

fn not_started(program: &Path, error: &Error) -> Failure {
    Failure::Misused(format!("cannot start {}: {error}", program.display()))
}
