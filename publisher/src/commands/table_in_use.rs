//! Why `attach` and `detach` could not lock the table.

use anyhow::anyhow;
use common::{
    identifier::TableName,
    outbox::capture::{self, table_locks},
    session::Session,
};

/// The error, or which transactions hold the table's lock if that is why the statement failed.
pub(super) async fn explain(
    connection: &mut Session,
    table: &TableName,
    error: sqlx::Error,
) -> anyhow::Error {
    if !capture::is_lock_timeout(&error) {
        return error.into();
    }
    // Who it was may have gone meanwhile.
    let holders = table_locks::holders(connection, table).await.unwrap_or_default();
    let held =
        if holders.is_empty() { "by others".to_owned() } else { format!("by {}", holders.join("; by ")) };
    anyhow!(
        "the table was in use whenever it was tried, {held}: end these transactions (pg_stat_activity shows them), or run this \
         again when fewer long ones run"
    )
}
