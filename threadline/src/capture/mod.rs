//! Capture of changes: triggers that record every change of a table's rows in the timeline, in the transaction that makes it.
//!
//! A [`Policy`] says what of a [`Table`] is captured, [`Capture`] joins both, and [`Migration`] is the SQL for it.

pub(crate) mod deployed;
pub mod library;
pub mod migration;
pub mod names;
pub mod policy;
pub mod refusal;
pub mod render;
pub(crate) mod stored;
pub mod table;
pub(crate) mod trigger;

use sqlx::PgConnection;

pub use deployed::DeployedPolicy;
pub use library::LibraryTrigger;
pub use migration::Migration;
pub use names::HostTable;
pub use policy::{Level, Policy};
pub use refusal::Refusal;
pub use render::Capture;
pub use table::Table;

use crate::StorageSchema;

/// Why captures could not be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A table cannot be captured as requested.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What the database says, or that it says nothing.
    #[error("{}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// Captures of tables under their policies, in order.
///
/// # Errors
/// When a table is not there, is one of Threadline's own, is there twice, or cannot be captured; when the server is away.
pub async fn plan(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    tables: &[(HostTable, Policy)],
) -> Result<Vec<Capture>, PlanError> {
    let names: Vec<HostTable> = tables.iter().map(|(name, _)| name.clone()).collect();
    let mut found = Table::read_all(connection, &names).await?;
    let mut captures = Vec::new();
    for (n, (name, policy)) in tables.iter().enumerate() {
        if tables[..n].iter().any(|(other, _)| other == name) {
            return Err(Refusal::new("table_twice", format!("{name} is there twice")).into());
        }
        if name.schema == storage.as_str() && crate::install::owned_tables().contains(&name.name.as_str()) {
            let reason = format!("{name} is a table of the timeline: it would record itself without end");
            return Err(Refusal::new("own_table", reason).into());
        }
        let Some(table) = found.remove(name) else {
            let refusal = Refusal::new("table_missing", format!("there is no table {name}"));
            return Err(refusal.hint("create it first, or name its schema: SCHEMA.NAME").into());
        };
        let library = LibraryTrigger::read(connection, storage, name).await?;
        captures.push(Capture { library, ..Capture::new(storage.clone(), table, policy.clone())? });
    }
    Ok(captures)
}
