//! What of the timeline is asked for: one type with four views, of which each is made of each other without a loss.
//!
//! | view | example | where |
//! |---|---|---|
//! | typed | [`Filter`] | this module |
//! | text | `table:posts op:update changed:price after:19.90 last:24h` | [`mod@text`] |
//! | URL | `table=posts&op=update&changed=price&after=19.90&last=24h` | [`mod@url`] |
//! | JSON | `{"table": "posts", "op": "update", "changed": "price", "after": "19.90", "last": "24h"}` | [`mod@json`] |

mod error;
pub mod json;
mod key;
mod name;
mod table;
mod terms;
pub mod text;
pub mod url;
mod window;

use std::str::FromStr;

pub use error::FilterError;
pub use key::Key;
pub use name::Name;
pub use table::Table;
pub use terms::{FilterKey, keys};
pub use window::{Instant, Span, Window};

use crate::{ActorRef, Status};

/// Which entries of a timeline are asked for. Everything that is said has to hold; what is not said, does not count.
///
/// An entry is a change of a row, an action that a host recorded, or an audit event that the pipeline has carried. What is asked of an
/// actor, an id or a source holds for a change when it holds for its transaction; what is asked of an action, for a change when its
/// transaction is linked to such an action.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of which kind.
    pub kind: Option<Kind>,
    /// Of which table. Changes alone are of a table.
    pub table: Option<Table>,
    /// Of which row of the table.
    pub key: Option<Key>,
    /// What was done to a row.
    pub op: Option<Op>,
    /// Which column was changed by an update.
    pub changed: Option<Changed>,
    /// Who.
    pub actor: Option<ActorRef>,
    /// The name of an action, or how it begins.
    pub action: Option<Name>,
    /// How an action ended.
    pub status: Option<Status>,
    /// The category of an action.
    pub category: Option<String>,
    /// What ties actions and changes together.
    pub correlation: Option<String>,
    /// An HTTP request.
    pub request: Option<String>,
    /// A background job.
    pub job: Option<String>,
    /// What the host calls its source, such as `web`.
    pub source: Option<String>,
    /// What stands somewhere in an entry, in upper or lower case.
    pub text: Option<String>,
    /// When.
    pub window: Window,
}

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A captured change of a row.
    Change,
    /// An action that a host has recorded.
    Action,
    /// An audit event that the pipeline has carried.
    Event,
    /// An action or an event: whatever is recorded, and not captured. Of a filter only; an entry is one of both.
    Recorded,
}

impl Kind {
    /// Its name in text, URLs and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Action => "action",
            Self::Event => "event",
            Self::Recorded => "recorded",
        }
    }
}

impl FromStr for Kind {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        match text {
            "change" => Ok(Self::Change),
            "action" => Ok(Self::Action),
            "event" => Ok(Self::Event),
            "recorded" => Ok(Self::Recorded),
            _ => Err(FilterError::value("kind", text, "change, action, event or recorded")),
        }
    }
}

/// What is done to a row, or to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// A row is there that was not.
    Insert,
    /// A row is another one.
    Update,
    /// A row is gone.
    Delete,
    /// All rows of a table, or of a partition, are gone.
    Truncate,
}

impl Op {
    /// Its name in the table, in text, URLs and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }
}

impl FromStr for Op {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        match text {
            "insert" => Ok(Self::Insert),
            "update" => Ok(Self::Update),
            "delete" => Ok(Self::Delete),
            "truncate" => Ok(Self::Truncate),
            _ => Err(FilterError::value("op", text, "insert, update, delete or truncate")),
        }
    }
}

/// A column that an update has changed, and what it was before and is after, as text: numbers with their digits, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Changed {
    /// The name of the column.
    pub column: String,
    /// What it was.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
}

/// The longest correlation id that can be asked for, in bytes; that of the Elixir library.
pub const CORRELATION_BYTES_MAX: usize = 256;

impl Filter {
    /// Refuses what can hold for nothing or says less than it seems to, and what could not be written in one of the views.
    ///
    /// # Errors
    /// [`FilterError::Combination`], [`FilterError::NoValue`] and [`FilterError::Value`].
    pub fn check(&self) -> Result<(), FilterError> {
        if self.key.is_some() && self.table.is_none() {
            return Err(FilterError::Combination("key is of a table: say table too"));
        }
        if self.changed.is_some() && self.op.is_some_and(|op| op != Op::Update) {
            return Err(FilterError::Combination("changed is of updates: leave out op"));
        }
        if self.is_of_changes() && self.kind.is_some_and(|kind| kind != Kind::Change) {
            return Err(FilterError::Combination(
                "table, key, op and changed are of changes: leave out kind, or say kind:change",
            ));
        }
        terms::check(self)?;
        self.table.as_ref().map_or(Ok(()), Table::check)?;
        self.key.as_ref().map_or(Ok(()), Key::check)?;
        if let Some(id) = &self.correlation
            && (id.trim().is_empty() || id.len() > CORRELATION_BYTES_MAX)
        {
            return Err(FilterError::value("correlation", id, "an id of 1 to 256 bytes"));
        }
        self.window.check()
    }

    /// Whether changes can be what is asked for.
    pub(crate) fn has_changes(&self) -> bool {
        self.kind.is_none_or(|kind| kind == Kind::Change)
    }

    /// Whether actions or events can be what is asked for.
    pub(crate) fn has_actions(&self) -> bool {
        !self.is_of_changes() && self.kind != Some(Kind::Change)
    }

    /// Whether only changes can be what is asked for.
    #[must_use]
    pub fn is_of_changes(&self) -> bool {
        self.table.is_some() || self.key.is_some() || self.op.is_some() || self.changed.is_some()
    }

    /// The same for another time.
    #[must_use]
    pub fn within(self, window: Window) -> Self {
        Self { window, ..self }
    }
}

#[cfg(test)]
mod tests;
