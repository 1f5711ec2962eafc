//! Whether there are the tables that a policy names. A window under a name that is misspelt keeps nothing, and what it was meant for goes by the
//! default window.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::archive;
use crate::{
    StorageSchema,
    capture::{HostTable, Refusal},
    coverage::host_tables,
    nearest::nearest,
    query::recorded_tables,
};

/// Why names of a policy cannot be used: a refusal `table_unknown` for each that no table of the host has, and no change that is stored or
/// archived. A table that was dropped is known by its changes.
pub(crate) async fn unknown(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    named: impl IntoIterator<Item = &HostTable>,
) -> Result<Vec<Refusal>, sqlx::Error> {
    let named: Vec<&HostTable> = named.into_iter().collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let mut known: BTreeSet<HostTable> = recorded_tables(connection, storage).await?.into_iter().collect();
    known.extend(archive::tables(connection, storage).await?);
    let mut partitions = BTreeMap::new();
    for (table, of) in host_tables(connection, storage).await? {
        match of {
            Some(of) => drop(partitions.insert(table, of)),
            None => drop(known.insert(table)),
        }
    }
    let unknown = named.into_iter().filter(|table| !known.contains(*table));
    Ok(unknown.map(|table| refusal(table, &known, partitions.get(table))).collect())
}

fn refusal(table: &HostTable, known: &BTreeSet<HostTable>, partition_of: Option<&HostTable>) -> Refusal {
    let refused =
        |reason: String| Refusal::new("table_unknown", format!("the policy names {table}, {reason}"));
    if let Some(of) = partition_of {
        let reason = format!("a partition of {of}, under whose name its changes are recorded");
        return refused(reason).hint(format!("name {of} in [retention.tables] instead"));
    }
    let refused = refused("and there is no such table, and no change of one".to_owned());
    refused.hint(match nearest(Some(&table.schema), &table.name, known) {
        Some(near) => {
            format!("if {near} is meant, correct the name in [retention.tables]; otherwise remove it there")
        }
        None => "correct the name in [retention.tables], SCHEMA.NAME, or remove it there".to_owned(),
    })
}
