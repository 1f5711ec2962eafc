//! What to do.

use std::fmt;

use serde::Serialize;

/// A step to what should be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "text", rename_all = "snake_case")]
pub enum Remedy {
    /// A command line.
    Command(String),
    /// An SQL statement.
    Sql(String),
    /// Lines of audit.toml, behind the section that they are to be in: `in [coverage]: expected = ["public.posts"]`.
    Setting(String),
    /// What no line says.
    Advice(String),
}

impl Remedy {
    pub(super) fn command(line: impl Into<String>) -> Self {
        Self::Command(line.into())
    }

    pub(super) fn sql(statement: impl Into<String>) -> Self {
        Self::Sql(statement.into())
    }

    /// A file has each section once, so the section is named, and not a line to paste.
    pub(super) fn setting(section: &str, lines: &[String]) -> Self {
        match lines {
            [line] => Self::Setting(format!("in {section}: {line}")),
            lines => Self::Setting(format!("in {section}:\n{}", lines.join("\n"))),
        }
    }

    pub(super) fn advice(words: impl Into<String>) -> Self {
        Self::Advice(words.into())
    }

    /// A step of a finding of coverage: a command line of this program, or an SQL statement.
    pub(super) fn of_step(step: &str) -> Self {
        if step.starts_with("threadline ") { Self::command(step) } else { Self::sql(step) }
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        let (Self::Command(text) | Self::Sql(text) | Self::Setting(text) | Self::Advice(text)) = self;
        text
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(text) | Self::Sql(text) | Self::Advice(text) => f.write_str(text),
            Self::Setting(text) => write!(f, "audit.toml, {text}"),
        }
    }
}
