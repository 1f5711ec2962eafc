//! Pages of a timeline, in both directions.

use serde::Serialize;
use time::OffsetDateTime;

use super::{Cursor, Entry, ReadError, serialize};

/// The number of entries of a page, unless said otherwise.
pub const PAGE_SIZE: u16 = 50;

/// The largest page.
pub const PAGE_SIZE_MAX: u16 = 1_000;

/// Rows that are visited for a page before it is handed over as it is, where no index leads to what is asked for.
pub const VISITED_MAX: u32 = 2_000;

/// Which page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Entries at most, 1 to [`PAGE_SIZE_MAX`].
    pub size: u16,
    /// From where.
    pub from: From,
    /// Together what was written in one transaction; without, entries are in the order of their times, unless the filter asks for
    /// something that transactions or actions have.
    pub by_transaction: bool,
    /// Rows that may be visited, where no index leads to what is asked for: see [`Page::visited_to`].
    pub visited: u32,
}

/// From where a page goes, and in which direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum From {
    /// From the newest entry to older ones.
    #[default]
    Newest,
    /// From a place to older ones.
    OlderThan(Cursor),
    /// From a place to newer ones.
    NewerThan(Cursor),
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { size: PAGE_SIZE, from: From::Newest, by_transaction: false, visited: VISITED_MAX }
    }
}

/// Entries, the newest first, whichever direction was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether there are more in the direction that was asked for: exact, unless [`Self::visited_to`] says otherwise.
    pub has_more: bool,
    /// For the page of older entries; none where there are none.
    #[serde(serialize_with = "serialize::text")]
    pub older: Option<Cursor>,
    /// For the page of newer entries. A timeline grows: there may be none yet.
    #[serde(serialize_with = "serialize::text")]
    pub newer: Option<Cursor>,
    /// Up to where everything was looked at, when as many rows were visited as may be and the page is not full: what was asked for is rare.
    /// Going on leads further. Where the scope is not everything, it is a full hour, minute, second or millisecond, or the last entry of the
    /// page, and so is the cursor: the row that the search came to may be another's.
    #[serde(serialize_with = "serialize::optional_time")]
    pub visited_to: Option<OffsetDateTime>,
}

/// How many entries there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "count", content = "entries", rename_all = "snake_case")]
pub enum Count {
    /// As many.
    Exactly(u32),
    /// More than can be counted in time to be of use.
    MoreThan(u32),
    /// Counting took too long.
    Unknown,
}

/// Whether a page may have so many of `what`.
pub(super) fn check_size(size: u16, what: &str) -> Result<(), ReadError> {
    if (1..=PAGE_SIZE_MAX).contains(&size) {
        return Ok(());
    }
    Err(ReadError::unusable("page_size", format!("a page has 1 to {PAGE_SIZE_MAX} {what}, not {size}")))
}
