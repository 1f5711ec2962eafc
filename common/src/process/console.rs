//! What a command says to the person or program that called it. Logs are something else.

use std::{
    cell::Cell,
    error::Error,
    fmt::Write as _,
    io::{self, Write as _, stderr, stdout},
    sync::OnceLock,
    time::{Duration, Instant},
};

use indicatif::ProgressStyle;
use time::OffsetDateTime;

use crate::time_arg::to_rfc3339;

/// How often long work says in the log how far it is.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Why an answer could not be written.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// Writes a command's answer to standard output. What cannot be written makes the process fail at its end ([`unwritten`]): by
/// then the work has been done.
pub fn print(text: &str) {
    printed(stdout().write_all(text.as_bytes()));
}

/// Notes whether something else could write the answer to standard output.
pub fn printed(result: io::Result<()>) {
    if let Err(error) = result.and_then(|()| stdout().flush()) {
        let _ = UNWRITTEN.set(error);
    }
}

/// Why an answer of this process could not be written, if that happened.
#[must_use]
pub fn unwritten() -> Option<&'static io::Error> {
    UNWRITTEN.get()
}

/// Writes an error with its causes to standard error: for people, or as a line like those of the logs.
pub fn print_error(error: &(dyn Error + 'static), human: bool, exit_status: u8) {
    let text = if human { explain(error) } else { logged(error, exit_status) };
    let _ = stderr().write_all(text.as_bytes());
}

/// Progress of long work: a bar with rate and remaining time on a terminal, a log line now and then elsewhere.
#[derive(Debug)]
pub struct ProgressBar {
    shown: indicatif::ProgressBar,
    what: String,
    logged_at: Cell<Instant>,
}

impl ProgressBar {
    /// Begins at none of `total`.
    #[must_use]
    pub fn new(what: impl Into<String>, total: u64) -> Self {
        const TEMPLATE: &str = "{msg} {wide_bar} {pos}/{len} {per_sec} {eta}";
        let what = what.into();
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        // Hides itself where standard error is no terminal.
        let bar = indicatif::ProgressBar::new(total).with_style(style).with_message(what.clone());
        Self { shown: bar, what, logged_at: Cell::new(Instant::now()) }
    }

    /// So many more are done.
    pub fn advance(&self, count: u64) {
        self.shown.inc(count);
        if self.shown.is_hidden() && self.logged_at.get().elapsed() > LOG_INTERVAL {
            self.logged_at.set(Instant::now());
            tracing::info!(done = self.shown.position(), of = self.shown.length(), "{}", self.what);
        }
    }

    /// Takes the bar away; the answer follows.
    pub fn finish(&self) {
        self.shown.finish_and_clear();
    }
}

fn explain(error: &(dyn Error + 'static)) -> String {
    let mut causes = errors::causes(error).into_iter();
    let mut text = format!("error: {}\n", causes.next().unwrap_or_default());
    for cause in causes {
        let _ = writeln!(text, "  because: {cause}");
    }
    text
}

fn logged(error: &(dyn Error + 'static), exit_status: u8) -> String {
    let line = serde_json::json!({
        "timestamp": to_rfc3339(OffsetDateTime::now_utc()),
        "level": "ERROR",
        "message": errors::line(error),
        "exit_status": exit_status,
    });
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_listed_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the log: {0}")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("the server is away")]
        struct Middle(#[source] io::Error);
        let error = Outer(Middle(io::Error::other("connection refused")));
        assert_eq!(
            explain(&error),
            "error: cannot read the log: the server is away\n  because: connection refused\n"
        );
        let line: serde_json::Value = serde_json::from_str(&logged(&error, 1)).expect("one line of JSON");
        assert_eq!(line["message"], "cannot read the log: the server is away: connection refused");
        assert_eq!((&line["level"], &line["exit_status"]), (&"ERROR".into(), &1.into()));
    }
}
