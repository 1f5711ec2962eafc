//! What every process has, and everything else may use: its name, what it prints ([`console`]), how it says how it is ([`health`],
//! [`telemetry`]), how it ends ([`shutdown`]), and the record of what operators did ([`operator_log`]). How a service is made of it is in
//! [`crate::service`].

pub mod console;
pub mod health;
pub mod operator_log;
pub mod shutdown;
pub mod telemetry;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// A duration as a field of the log, in whole milliseconds. Wider integers would be logged as text.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The name of this binary, as an operator would call it; a host's consumer has one of its own.
#[must_use]
pub fn program() -> String {
    let path = std::env::args_os().next().map(PathBuf::from);
    path.as_deref()
        .and_then(Path::file_name)
        .map_or_else(|| "consumer".to_owned(), |name| name.to_string_lossy().into_owned())
}
