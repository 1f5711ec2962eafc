//! Which source a stream or a receipt belongs to.

use std::fmt;

use crate::{identifier::TableName, session::Session};

/// Which table of which database of which cluster a stream carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceIdentity(pub(crate) String);

impl SourceIdentity {
    /// Of the database that the connection leads to.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn read(connection: &mut Session, table: &TableName) -> Result<Self, sqlx::Error> {
        let (identifier, database): (i64, String) =
            sqlx::query_as("select system_identifier, current_database()::text from pg_control_system()")
                .fetch_one(connection)
                .await?;
        Ok(Self(format!("{identifier}/{database}/{table}")))
    }

    /// The same under a name of its own, if it has one: what a copy of the database does not share.
    #[must_use]
    pub fn named(self, name: Option<&str>) -> Self {
        match name {
            Some(name) => Self(format!("{self} as {name}")),
            None => self,
        }
    }
}

impl fmt::Display for SourceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
