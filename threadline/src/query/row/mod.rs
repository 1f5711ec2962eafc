//! One row of a host's table through time: its history, what it was at a time, and who set what of it.
//!
//! | question | answer |
//! |---|---|
//! | what happened to it | [`Reader::row_history`] |
//! | what was it then | [`Reader::as_of`], [`Reader::as_of_with_children`] |
//! | who set what stands in it | [`Reader::blame`] |
//! | what was the whole table then | [`Reader::table_as_of`] |
//!
//! A row is found by [`Reader::row`], from the name of its table and its key. Nothing has to be registered for it.

mod as_of;
mod at;
mod blame;
mod children;
mod events;
mod heads;
mod history;
pub(super) mod image;
mod lineage;
mod lives;
mod order;
mod reading;
mod resolve;
mod source;
mod statements;
mod table;
mod truncates;
mod walk;

use std::fmt;

use serde::Serialize;

pub use as_of::{AsOf, Followed, NotFollowed};
pub use at::At;
pub use blame::{BLAMED_MAX, Blame, BlamedColumn};
pub use children::{
    CHILDREN_MAX, CHILDREN_TIME, Child, Children, ChildrenRequest, DEPTH_MAX, RowWithChildren,
};
pub(crate) use history::push_not_since;
pub use history::{HISTORY_SIZE, RowHistory, RowPage};
pub use image::RowKey;
pub use lineage::{KeySpan, LINEAGE_MAX};
pub(crate) use lives::KEY_BEFORE;
pub(crate) use reading::Reading;
pub use table::{RowAsOf, TABLE_VISITED_MAX, TableAsOf, TablePage};
pub use truncates::TRUNCATES_MAX;
pub(crate) use walk::{RowChanges, TableChanges};

use super::{Key, ReadError, Reader, Table, cursor, entry};
use crate::capture::HostTable;
use source::Source;

/// A row of a host's table, as [`Reader::row`] finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The schema of its table.
    pub schema: String,
    /// Its table.
    pub table: String,
    /// The texts of the columns of its key by their names, as capture records them.
    pub key: RowKey,
    /// Under which names its changes are filed.
    #[serde(skip)]
    sources: Vec<Source>,
}

impl Row {
    /// Its table.
    #[must_use]
    pub fn table(&self) -> HostTable {
        HostTable { schema: self.schema.clone(), name: self.table.clone() }
    }

    /// Another row of the same table.
    #[must_use]
    pub fn with_key(&self, key: RowKey) -> Self {
        Self { key, ..self.clone() }
    }

    /// Its key as it is stored.
    fn key_json(&self) -> String {
        image::key_json(&self.key)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} {}", self.schema, self.table, self.key_json())
    }
}
