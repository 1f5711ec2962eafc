//! How much was erased.

use std::{collections::BTreeMap, ops::AddAssign};

use serde::{Deserialize, Serialize};

/// How much was erased.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Rows, by the timeline's own tables.
    pub rows: BTreeMap<String, u64>,
    /// Values, by table and column: of changes the host's, of others the timeline's.
    pub values: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Counts {
    pub(super) fn add_rows(&mut self, table: &str, rows: u64) {
        if rows > 0 {
            *self.rows.entry(table.to_owned()).or_default() += rows;
        }
    }

    pub(super) fn add_values(&mut self, place: String, column: String, values: u64) {
        *self.values.entry(place).or_default().entry(column).or_default() += values;
    }

    /// All rows.
    #[must_use]
    pub fn total_rows(&self) -> u64 {
        self.rows.values().sum()
    }

    /// All values.
    #[must_use]
    pub fn total_values(&self) -> u64 {
        self.values.values().flat_map(BTreeMap::values).sum()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (table, rows) in other.rows {
            self.add_rows(&table, rows);
        }
        for (place, columns) in other.values {
            for (column, values) in columns {
                self.add_values(place.clone(), column, values);
            }
        }
    }
}
