//! A lease: a row that lets one process of several do something, until it expires.
//!
//! Every step is one statement, and the clock is the database's; no lock outlives a transaction, so a lease works behind any pooler. Renewed in
//! the transaction that does the work, it is also a fence: whoever has lost it commits nothing more.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{StorageSchema, query::Statement};

/// How long a lease is believed without being renewed.
pub const LENGTH: Duration = Duration::from_secs(60);

/// A named lease, and this process's claim on it.
#[derive(Debug, Clone)]
pub struct Lease {
    name: &'static str,
    holder: String,
}

/// Who has a lease, and until when unless it is renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process, for people.
    pub holder: String,
    /// By the database's clock.
    pub until: OffsetDateTime,
}

impl Lease {
    /// A claim that no other one is equal to. Nothing is asked of the server.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("an unknown host");
        let holder = format!("process {} on {host} ({})", std::process::id(), Uuid::now_v7());
        Self { name, holder }
    }

    /// This claim, for people.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Takes the lease if nobody has it, or it has expired; until when, or who has it instead. An end that is further away than a lease is
    /// long was written by a clock that was wrong, and does not count.
    ///
    /// # Errors
    /// What the database says.
    pub async fn take(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<Result<OffsetDateTime, Holder>, sqlx::Error> {
        loop {
            if let Some(until) = self.taken(connection, storage).await? {
                return Ok(Ok(until));
            }
            // Given back meanwhile: it is free.
            if let Some(holder) = self.other(connection, storage).await? {
                return Ok(Err(holder));
            }
        }
    }

    async fn taken(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<Option<OffsetDateTime>, sqlx::Error> {
        let mut statement = Statement::new(format!(
            "insert into {} as l (name, holder, until) values (",
            storage.table("threadline_leases")
        ));
        statement.bind(self.name).push(", ").bind(&self.holder).push(", ");
        push_end(1, &mut statement);
        statement.push(
            ") on conflict (name) do update set holder = excluded.holder, until = excluded.until
             where l.holder = excluded.holder or l.until < clock_timestamp() or l.until > ",
        );
        push_end(2, &mut statement);
        statement.push(" returning l.until");
        time_of(&statement, connection).await
    }

    /// Who has it.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn other(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<Option<Holder>, sqlx::Error> {
        use sqlx::Row as _;
        let mut statement = Statement::new(format!(
            "select l.holder, l.until from {} l where l.name = ",
            storage.table("threadline_leases")
        ));
        statement.bind(self.name);
        let row = statement.fetch_optional(connection).await?;
        row.map(|row| Ok(Holder { holder: row.try_get(0)?, until: row.try_get(1)? })).transpose()
    }

    /// Renews the lease; until when, or `None` where somebody else has it by now.
    ///
    /// # Errors
    /// What the database says.
    pub async fn renew(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<Option<OffsetDateTime>, sqlx::Error> {
        let mut statement =
            Statement::new(format!("update {} l set until = ", storage.table("threadline_leases")));
        push_end(1, &mut statement);
        statement.push(" where l.name = ").bind(self.name).push(" and l.holder = ").bind(&self.holder);
        statement.push(" returning l.until");
        time_of(&statement, connection).await
    }

    /// Gives the lease back. What somebody else has by now stays theirs.
    ///
    /// # Errors
    /// What the database says; the lease then expires by itself.
    pub async fn release(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<(), sqlx::Error> {
        let mut statement =
            Statement::new(format!("delete from {} l where l.name = ", storage.table("threadline_leases")));
        statement.bind(self.name).push(" and l.holder = ").bind(&self.holder);
        statement.query().execute(connection).await?;
        Ok(())
    }
}

/// Pushes the time so many lengths of a lease from now.
fn push_end(lengths: i64, statement: &mut Statement) {
    let seconds = i64::try_from(LENGTH.as_secs()).unwrap_or(i64::MAX);
    statement.push("clock_timestamp() + ").bind(lengths * seconds).push(" * interval '1 second'");
}

async fn time_of(
    statement: &Statement,
    connection: &mut PgConnection,
) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    use sqlx::Row as _;
    statement.fetch_optional(connection).await?.map(|row| row.try_get(0)).transpose()
}
