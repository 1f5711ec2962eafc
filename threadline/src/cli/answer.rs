//! What a command answers, or why it has none, and the exit status of either.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use threadline::capture::Refusal;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What goes to standard output.
pub(crate) struct Answer {
    pub(crate) text: String,
    /// 0, or 1 for an answer that says that something is not as it should be.
    pub(crate) status: u8,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self { text, status: 0 }
    }
}

/// Why a command ends without having done it.
pub(crate) enum Failure {
    /// Settings or arguments that cannot be used: a repetition is in vain.
    Misused(String),
    /// What the server says, or that it says nothing.
    Failed(anyhow::Error),
    /// The answer could not be written as it came.
    Unwritten(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unwritten(error)
    }
}

impl From<Refusal> for Failure {
    /// With its term, which programs can rely on.
    fn from(refusal: Refusal) -> Self {
        Self::Misused(format!("{}: {refusal}", refusal.term))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Refusal>() {
            Ok(refusal) => refusal.into(),
            // A file that the URL names, such as a certificate.
            Err(error) if matches!(error.downcast_ref(), Some(sqlx::Error::Configuration(_))) => {
                Self::Misused(errors::line(error.as_ref()))
            }
            Err(error) => Self::Failed(error),
        }
    }
}

/// Writes the answer, or why there is none.
pub(crate) fn finish(done: Result<Answer, Failure>, json: bool) -> ExitCode {
    match done {
        Ok(answer) => written(io::stdout().write_all(answer.text.as_bytes()), answer.status, json),
        Err(Failure::Misused(what)) => failed(&what, 2, json),
        Err(Failure::Unwritten(error)) => written(Err(error), 1, json),
        Err(Failure::Failed(error)) => failed(&errors::line(error.as_ref()), 1, json),
    }
}

/// The exit status of a process whose work is done: it fails if it could not say so.
pub(crate) fn written(result: io::Result<()>, status: u8, json: bool) -> ExitCode {
    match result.and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::from(status),
        // A reader that has gone away (`| head`) has seen enough of it.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(1),
        Err(error) => {
            let words = format!("cannot write to standard output: {error}. What the command does is done");
            failed(&words, 1, json)
        }
    }
}

/// Says why, as text or as a line of JSON; returns the exit status.
pub(crate) fn failed(words: &str, status: u8, json: bool) -> ExitCode {
    let text = if json { logged(words, status) } else { format!("error: {words}\n") };
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(status)
}

/// A line like those of the services' logs.
fn logged(words: &str, status: u8) -> String {
    let line = serde_json::json!({
        "timestamp": OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
        "level": "ERROR",
        "message": words,
        "exit_status": status,
    });
    format!("{line}\n")
}
