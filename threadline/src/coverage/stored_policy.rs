//! What of a table is hidden, as its triggers were made: for who reads its changes.

use crate::{
    capture::{HostTable, Policy, stored::StoredPolicy},
    query::{ReadError, Reader},
};

/// The policy that a table is captured under; none where it is not captured by triggers of ours, or where this role may not see policies.
/// It holds names of columns, and no value.
///
/// # Errors
/// What the database says.
pub async fn stored_policy(reader: &Reader, table: &HostTable) -> Result<Option<Policy>, ReadError> {
    let mut connection = reader.connection().await?;
    match StoredPolicy::read_of(&mut connection, reader.schema(), Some(table)).await {
        Ok(policies) => Ok(policies.into_iter().next().and_then(|stored| stored.policy)),
        Err(error) if is_hidden(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_hidden(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() == Some("42501")
}
