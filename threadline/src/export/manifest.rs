//! What an export is: a document beside it, whose bytes are signed.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Format, Options, Profile};
use crate::{
    horizon::Horizon,
    query::{Kind, time_text},
};

/// The version of the document.
pub(super) const FORMAT_VERSION: u32 = 1;

/// What an export is. Times are RFC 3339 in UTC with six decimals, digests SHA-256 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// Of this document; 1.
    pub format_version: u32,
    /// What made it.
    pub product: Product,
    /// The name of the exported file, which is beside the manifest; none where it went to standard output.
    pub file: Option<String>,
    /// When it began, by the clock of the database.
    pub generated_at: String,
    /// Times at which it was gone on with. What was removed from the timeline before is missing in what was exported after.
    pub resumed_at: Vec<String>,
    /// From which database.
    pub database: Database,
    /// In which schema the timeline is.
    pub storage_schema: String,
    /// What was visible, as `pg_current_snapshot()` prints it.
    pub snapshot: String,
    /// What was asked for, as a text of filters; empty for everything.
    pub filter: String,
    /// The ends of the filter's window, both included.
    pub window: Window,
    /// What of the timeline could be seen.
    pub scope: Value,
    /// Which shape.
    pub profile: Profile,
    /// Which format.
    pub format: Format,
    /// What else was said.
    pub options: Said,
    /// The columns of CSV, or the members that an entry of JSON has, in their order.
    pub columns: Vec<String>,
    /// Entries, by kind.
    pub rows: Rows,
    /// Entries that were wanted at most.
    pub max_rows: Option<u64>,
    /// Whether there were more.
    pub truncated: bool,
    /// Bytes of the file.
    pub bytes: u64,
    /// Of the file.
    pub sha256: String,
    /// Stretches of the file, one behind the other.
    pub parts: Vec<Part>,
    /// The time of the first entry in the file.
    pub first_entry_at: Option<String>,
    /// The time of the last one.
    pub last_entry_at: Option<String>,
    /// What of what was asked for retention had deleted before; none where it had deleted nothing of it, or nobody could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged: Option<Purged>,
    /// Whether the export stands in the timeline as an action.
    pub recorded: bool,
    /// The public key in hexadecimal, where it is signed.
    pub key: Option<String>,
}

/// What made an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A database of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// The system identifier of its cluster.
    pub system_identifier: String,
}

/// Both ends of a window; an end that is not there is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The first time.
    pub from: Option<String>,
    /// The last one.
    pub to: Option<String>,
}

/// What an export lacks because it was purged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// What is older may be missing; none of a run that does not say it.
    pub before: Option<String>,
    /// The run of retention that has deleted up to there.
    pub run: String,
    /// Of which tables it has deleted changes, as `schema.table`; none where it does not say, or where actions alone were asked for.
    pub tables: Option<Vec<String>>,
}

impl From<&Horizon> for Purged {
    fn from(horizon: &Horizon) -> Self {
        Self {
            before: horizon.latest_of_a_table.or(horizon.cutoff).map(time_text),
            run: horizon.run.to_string(),
            tables: horizon.tables.clone(),
        }
    }
}

/// Options of an export that are no fields of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Two more columns of CSV.
    pub action_metadata: bool,
    /// Cells that look like formulas begin with an apostrophe that is not stored.
    pub spreadsheet_safe: bool,
}

/// How many entries of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Changes.
    pub change: u64,
    /// Actions of the host.
    pub action: u64,
    /// Events that the pipeline has carried.
    pub event: u64,
    /// Captured transactions without changes, which an archive alone has; not said where there are none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub transaction: u64,
}

/// A stretch of an exported file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// Of its bytes.
    pub sha256: String,
    /// Entries that end in it.
    pub rows: Rows,
    /// The time of the first one.
    pub first_entry_at: Option<String>,
    /// The time of the last one.
    pub last_entry_at: Option<String>,
}

/// Entries that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Entry(Kind),
    Transaction,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "how serde asks")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Rows {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.action, self.event, self.transaction].into_iter().fold(self.change, u64::saturating_add)
    }

    pub(super) fn count(&mut self, counted: Counted) {
        match counted {
            Counted::Entry(Kind::Change) => self.change += 1,
            Counted::Entry(Kind::Action | Kind::Recorded) => self.action += 1,
            Counted::Entry(Kind::Event) => self.event += 1,
            Counted::Transaction => self.transaction += 1,
        }
    }

    /// Of all parts together; the sum of what somebody wrote may be too large.
    pub(super) fn of<'p>(parts: impl IntoIterator<Item = &'p Part>) -> Self {
        parts.into_iter().fold(Self::default(), |sum, part| Self {
            change: sum.change.saturating_add(part.rows.change),
            action: sum.action.saturating_add(part.rows.action),
            event: sum.event.saturating_add(part.rows.event),
            transaction: sum.transaction.saturating_add(part.rows.transaction),
        })
    }
}

impl From<&Options> for Said {
    fn from(options: &Options) -> Self {
        Self { action_metadata: options.action_metadata, spreadsheet_safe: options.spreadsheet_safe }
    }
}

impl Manifest {
    /// Its bytes: JSON on one line, the members of objects in the order of their names, and a line feed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // A map of this build is in the order of its names.
        format!("{}\n", json!(self)).into_bytes()
    }
}
