//! Why a request has no answer, and what whoever asked can do.

use axum::http::StatusCode;
use threadline::{
    export::{ExportError, jobs::JobError},
    query::{FilterError, ReadError},
    receipts::ReceiptError,
    views::ViewError,
};

use crate::{Capability, Denied};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked cannot be answered as it was asked: the term, and what to do.
    Refused { term: String, text: String },
    /// It is not there, or not within the scope: nobody can tell which.
    NotFound,
    /// No page has this address.
    NoPage,
    /// A saved view that is not there, or another's.
    NoView,
    /// The grant does not allow it.
    Closed(Capability),
    /// The host does not let them in.
    Denied(Denied),
    /// Too many requests of one actor.
    Busy,
    /// It was done a moment ago; the seconds after which it can be done again.
    TooSoon(u64),
    /// A statement took longer than it may.
    TooSlow,
    /// The tables are not there, or of another version.
    Outdated,
    /// The database is away.
    Away,
    /// The pipeline's database cannot answer: the term, and what to do.
    #[cfg(feature = "pipeline")]
    Source { term: &'static str, text: String },
    /// A fault of ours; what it is stands in the log.
    Broken,
}

impl Failure {
    pub(crate) fn unusable(term: &str, text: impl Into<String>) -> Self {
        Self::Refused { term: term.to_owned(), text: text.into() }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Refused { .. } => StatusCode::BAD_REQUEST,
            Self::NotFound | Self::NoPage | Self::NoView => StatusCode::NOT_FOUND,
            Self::Closed(_) | Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Busy | Self::TooSoon(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::TooSlow | Self::Outdated | Self::Away => StatusCode::SERVICE_UNAVAILABLE,
            #[cfg(feature = "pipeline")]
            Self::Source { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What programs can rely on.
    pub(crate) fn term(&self) -> &str {
        match self {
            Self::Refused { term, .. } => term,
            Self::NotFound | Self::NoPage | Self::NoView => "not_found",
            Self::Closed(_) => "capability_missing",
            Self::Denied(_) => "denied",
            Self::Busy => "busy",
            Self::TooSoon(_) => "too_soon",
            Self::TooSlow => "took_too_long",
            Self::Outdated => "schema_outdated",
            Self::Away => "database_away",
            #[cfg(feature = "pipeline")]
            Self::Source { term, .. } => term,
            Self::Broken => "internal_error",
        }
    }

    pub(crate) fn title(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "This cannot be answered",
            Self::NotFound | Self::NoPage | Self::NoView => "Nothing is here",
            Self::Closed(_) | Self::Denied(_) => "Not for you",
            Self::Busy | Self::TooSoon(_) => "One thing at a time",
            Self::TooSlow => "That took too long",
            Self::Outdated => "The timeline is of another version",
            Self::Away => "The timeline cannot be read now",
            #[cfg(feature = "pipeline")]
            Self::Source { .. } => "The pipeline cannot be read now",
            Self::Broken => "Something went wrong here",
        }
    }

    /// What happened, and what to do.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Refused { text, .. } => text.clone(),
            #[cfg(feature = "pipeline")]
            Self::Source { text, .. } => text.clone(),
            Self::Denied(denied) => denied.text.clone(),
            Self::Closed(capability) => format!(
                "This needs the capability \"{}\"{}. Whoever runs this application decides who has it.",
                capability.as_str(),
                if capability.needs_everything() { " and a scope that is everything" } else { "" }
            ),
            Self::NotFound => "There is no such entry, or none that you may see. It may be older than what is kept: \
                               `threadline retention runs` says what was purged when."
                .to_owned(),
            Self::Busy => "As many things are being answered as may be at a time, yours or those of others. Wait a moment, then try again.".to_owned(),
            Self::NoPage => "No page has this address. The search field and the pages above lead to everything that there is.".to_owned(),
            Self::NoView => "There is no such view of yours: it may have been deleted already. The page \"Saved\" has those that there are.".to_owned(),
            Self::TooSoon(seconds) => format!("This was done a moment ago. It can be done again in {seconds} seconds."),
            Self::TooSlow => "It took longer than a statement or a page may. Make it narrower: a window such as last:24h, or a table.".to_owned(),
            Self::Outdated => "Its tables are missing, or those of another version. `threadline install` completes them.".to_owned(),
            Self::Away => "Its database is away or lets nobody in. Nothing is lost; try again in a moment.".to_owned(),
            Self::Broken => "The error stands in the log of this service.".to_owned(),
        }
    }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        ReadError::from(error).into()
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match (error.term(), error) {
            // The search for a row is answered by a page that says what can be done.
            (_, ReadError::Database(error)) => error.into(),
            (term, error) => {
                Self::Refused { term: term.unwrap_or_default().to_owned(), text: error.to_string() }
            }
        }
    }
}

impl From<ViewError> for Failure {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Refused { term: "not_found", .. } => Self::NoView,
            ViewError::Refused { term, reason } => Self::unusable(term, reason),
            ViewError::Database(error) => error.into(),
            error => {
                tracing::error!(%error, "a saved view cannot be had");
                Self::Broken
            }
        }
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Database(error) => error.into(),
            JobError::Export(error) => error.into(),
            error if error.term() == Some("job_missing") => Self::NotFound,
            error => Self::unusable(error.term().unwrap_or_default(), error.to_string()),
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Read(error) => error.into(),
            ExportError::Unrecorded(error) => error.into(),
            ExportError::Refused { term, reason } => Self::unusable(term, reason),
            error => {
                tracing::error!(error = %errors::line(&error), "an export cannot be read or written");
                Self::unusable(
                    "export_file",
                    "The file of the export cannot be read here. Whoever runs this application finds in its log why.",
                )
            }
        }
    }
}

impl From<ReceiptError> for Failure {
    fn from(error: ReceiptError) -> Self {
        match error {
            ReceiptError::Database(error) => error.into(),
            ReceiptError::Read(error) => error.into(),
            error => Self::unusable(error.term().unwrap_or_default(), error.to_string()),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::of_database(&error, "timeline")
    }
}

impl Failure {
    /// What an error of a database means; `which` is what the log calls it.
    pub(crate) fn of_database(error: &sqlx::Error, which: &str) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        match code.as_deref() {
            Some("57014") => Self::TooSlow,
            // A schema, table or column that is not there.
            Some("3F000" | "42P01" | "42703") => Self::Outdated,
            // A server that ends, starts, or has no connection left; a database that is gone or accepts none; a login or rights that are missing.
            Some(code)
                if code.starts_with("57P")
                    || code.starts_with("53")
                    || code.starts_with("08")
                    || code.starts_with("28")
                    || ["3D000", "55000"].contains(&code)
                    || code == "42501" =>
            {
                tracing::warn!(error = %errors::line(error), "the {which} cannot be read");
                Self::Away
            }
            Some(_) => {
                tracing::error!(error = %errors::line(error), "a statement of the operator surface failed");
                Self::Broken
            }
            None if matches!(error, sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }) => {
                tracing::error!(%error, "a row of the {which} cannot be read");
                Self::Broken
            }
            None => {
                tracing::warn!(%error, "the {which} cannot be reached");
                Self::Away
            }
        }
    }
}
