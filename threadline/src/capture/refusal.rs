//! Why a table cannot be captured as it was requested.

/// A refusal: a term that programs can rely on, the reason, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct Refusal {
    /// Which kind; stays the same between versions.
    pub term: &'static str,
    /// What is wrong, with names of tables and columns.
    pub reason: String,
    /// What to do, where there is something to do.
    pub hint: Option<String>,
}

impl Refusal {
    pub(crate) fn new(term: &'static str, reason: impl Into<String>) -> Self {
        Self { term, reason: reason.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
