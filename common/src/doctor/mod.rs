//! Checks that settings and servers keep the contracts that the pipeline rests on: `publisher doctor`, `consumer doctor`,
//! and the boot of both services.
//!
//! A [`Check`] has a name that stays and a severity; [`checks`] lists all of them. [`settings`] checks the settings alone,
//! [`source`] at the source database, [`crate::broker::doctor`] at JetStream; the services add what only they know. Nothing
//! here changes anything.

pub mod checks;
pub mod columns;
mod grants;
mod probes;
mod render;
mod rules;
pub mod settings;
pub mod source;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use serde::Serialize;

pub use checks::Check;

use crate::{outbox::OutboxError, process::console};

/// What a finding means for the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot work, or not as promised; a service refuses to start.
    Error,
    /// It works, until something else happens.
    Warning,
    /// It could be better.
    Hint,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Hint => "hint",
        })
    }
}

/// The service whose doctor runs the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `publisher`.
    Publisher,
    /// `consumer`.
    Consumer,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What is wrong, with the figures; no secrets.
    pub what: String,
    /// The command or the setting that fixes it.
    pub remedy: String,
}

impl Problem {
    /// A sentence on what is wrong, and what to do.
    #[must_use]
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        // Names of sessions and messages of servers are text that others wrote.
        let line = |text: String| text.replace(char::is_control, " ");
        Self { what: line(what.into()), remedy: line(remedy.into()) }
    }
}

/// What a check found, under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The check's name.
    pub name: &'static str,
    /// The check's severity.
    pub severity: Severity,
    /// What is wrong, with the figures.
    pub what: String,
    /// The remedy.
    pub remedy: String,
}

/// When the checks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// A command makes all of them.
    Command,
    /// A service starts: some are left out, see [`Check::at_boot`].
    Boot,
}

/// Which checks were made, and what they found.
#[derive(Debug)]
pub struct Report {
    run_mode: RunMode,
    made: BTreeMap<&'static str, &'static Check>,
    findings: Vec<Finding>,
}

impl Report {
    /// No check has been made.
    #[must_use]
    pub fn new(run_mode: RunMode) -> Self {
        Self { run_mode, made: BTreeMap::new(), findings: Vec::new() }
    }

    /// Whether a service starts.
    #[must_use]
    pub fn is_at_boot(&self) -> bool {
        self.run_mode == RunMode::Boot
    }

    /// Records what a check has found: nothing, one problem or several.
    pub fn record(&mut self, check: &'static Check, found: impl IntoIterator<Item = Problem>) {
        self.made.insert(check.name, check);
        self.findings.extend(found.into_iter().map(|Problem { what, remedy }| Finding {
            name: check.name,
            severity: check.severity,
            what,
            remedy,
        }));
    }

    /// Records the result of a check that may itself have failed. That is a finding too, and the other checks continue.
    pub fn record_result<E: Describe>(
        &mut self,
        check: &'static Check,
        result: Result<impl IntoIterator<Item = Problem>, E>,
    ) {
        match result {
            Ok(found) => self.record(check, found),
            Err(error) => {
                let error = error.describe();
                let what = format!("the check {} could not be made: {error}", check.name);
                let remedy = "fix what the server says, and run this again";
                self.record(checks::CHECK_FAILED, [Problem::new(what, remedy)]);
            }
        }
    }

    /// Everything found so far.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether a service would not start.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Ends the checks of a service that starts: logs each warning, and fails if errors were found.
    ///
    /// # Errors
    /// When there are errors; with all of them and their remedies.
    pub fn log_and_fail_on_errors(&self) -> Result<(), Refused> {
        for Finding { name, what, remedy, .. } in self.findings.iter().filter(of(Severity::Warning)) {
            tracing::warn!(finding = name, remedy, "{what}");
        }
        self.fail_on_errors()
    }

    /// Fails if errors were found; other findings are kept for later.
    ///
    /// # Errors
    /// When there are errors; with all of them and their remedies.
    pub fn fail_on_errors(&self) -> Result<(), Refused> {
        if self.has_errors() {
            let errors = self.findings.iter().filter(of(Severity::Error)).cloned().collect();
            return Err(Refused(errors));
        }
        Ok(())
    }

    /// Prints the answer of a command.
    ///
    /// # Errors
    /// When there are errors, which are printed all the same.
    pub fn print(&self, json: bool) -> Result<(), ChecksFailed> {
        console::print(&if json { render::json(self) } else { render::text(self) });
        if self.has_errors() { Err(ChecksFailed(self.count(Severity::Error))) } else { Ok(()) }
    }
}

/// Why a check did not come to an end.
pub trait Describe {
    /// The error as text, as [`errors`] has it.
    fn describe(&self) -> String;
}

impl Describe for sqlx::Error {
    fn describe(&self) -> String {
        errors::database(self)
    }
}

impl Describe for OutboxError {
    fn describe(&self) -> String {
        errors::line(self)
    }
}

impl<T: Describe> Describe for &T {
    fn describe(&self) -> String {
        (*self).describe()
    }
}

impl Describe for String {
    fn describe(&self) -> String {
        self.clone()
    }
}

fn of(severity: Severity) -> impl Fn(&&Finding) -> bool {
    move |finding| finding.severity == severity
}

/// Why a service does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused to start; `{} doctor` shows everything{}", crate::process::program(), listed(.0))]
pub struct Refused(Vec<Finding>);

impl Refused {
    /// Whether settings are at fault, which neither waiting nor a restart fixes.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        let of_settings = [checks::TARGETS_SHARED.name, checks::OUTBOX_OTHER_TABLE.name];
        self.0.iter().any(|finding| of_settings.contains(&finding.name))
    }
}

fn listed(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { name, what, remedy, .. } in findings {
        let _ = write!(text, "\n  {name}: {what}\n    remedy: {remedy}");
    }
    text
}

/// The end of a command that has printed errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} finding(s) of severity error")]
pub struct ChecksFailed(usize);
