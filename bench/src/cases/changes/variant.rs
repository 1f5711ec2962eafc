//! The ways in which changes are recorded.

use std::path::PathBuf;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{
    StorageSchema,
    capture::{HostTable, Migration, Policy, plan},
};

use super::{POSTGRESQL_AUDIT, postgresql_audit};
use crate::environment::{Environment, add_timeline};

const TABLE: &str = "create table accounts (id bigint primary key, email text, name text, status text, amount numeric, note text,
    updated_at timestamptz)";

/// Tables and trigger in the way of the Elixir library, written for this comparison: three statements a row.
const LIBRARY: &str = include_str!("library.sql");

/// A way of recording.
#[derive(Debug, Clone)]
pub(super) enum Variant {
    /// None.
    Bare,
    /// None, once more: how far apart the same thing may come out.
    BareAgain,
    /// Threadline's.
    Threadline {
        /// `row` or `statement`.
        level: &'static str,
        /// Whether the values before an update are stored.
        with_before: bool,
    },
    /// The Elixir library's, in tables of its own.
    Library,
    /// The same in the tables that `threadline install` makes, which have more indexes.
    LibraryInOurTables,
    /// `PostgreSQL-Audit`, by a Python that has it.
    PostgresqlAudit(PathBuf),
}

impl Variant {
    /// All that can be had.
    pub(super) fn all() -> Vec<Self> {
        let threadline = |level, with_before| Self::Threadline { level, with_before };
        let mut all = vec![
            Self::Bare,
            Self::Library,
            threadline("statement", true),
            threadline("row", true),
            Self::LibraryInOurTables,
            threadline("statement", false),
            threadline("row", false),
        ];
        all.extend(postgresql_audit::python().map(Self::PostgresqlAudit));
        all.push(Self::BareAgain);
        all
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::BareAgain => "bare again",
            Self::Threadline { level: "row", with_before: true } => "row level",
            Self::Threadline { level: "row", .. } => "row level, no before-values",
            Self::Threadline { with_before: true, .. } => "statement level",
            Self::Threadline { .. } => "statement level, no before-values",
            Self::Library => "library",
            Self::LibraryInOurTables => "library, our tables",
            Self::PostgresqlAudit(_) => POSTGRESQL_AUDIT,
        }
    }

    pub(super) fn is_bare(&self) -> bool {
        matches!(self, Self::Bare | Self::BareAgain)
    }

    /// Makes its triggers.
    pub(super) async fn set_up(&self, url: &str, history: u64) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(url).await?;
        match self {
            Self::Bare | Self::BareAgain => {}
            Self::Threadline { level, with_before } => {
                let table: HostTable = "accounts".parse()?;
                let section = json!({"level": level, "store_changed_from": with_before});
                let section = section.as_object().cloned().unwrap_or_default();
                let policy = Policy::read(&table, &section)?;
                let captures = plan(&mut connection, &StorageSchema::default(), &[(table, policy)]).await?;
                let migration = Migration::new(&captures, 1, |_| false);
                connection.execute(AssertSqlSafe(migration.up)).await?;
            }
            Self::Library => trigger(&mut connection, "library").await?,
            Self::LibraryInOurTables => trigger(&mut connection, "public").await?,
            Self::PostgresqlAudit(python) => {
                postgresql_audit::set_up(python, url)?;
                connection.execute(AssertSqlSafe(postgresql_audit::history(history))).await?;
            }
        }
        // As of a table that lives; autovacuum would come in the middle of a sample.
        connection.execute("vacuum (freeze, analyze)").await?;
        connection.close().await?;
        Ok(())
    }

    /// How many changes there are.
    pub(super) async fn recorded(&self, connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
        let of = match self {
            Self::Library => "library.audit_changes where table_name = 'accounts'",
            Self::PostgresqlAudit(_) => "activity where table_name = 'accounts'",
            _ => "audit_changes where table_name = 'accounts'",
        };
        let statement = AssertSqlSafe(format!("select count(*) from {of}"));
        Ok(sqlx::query_scalar::<_, i64>(statement).fetch_one(connection).await?.cast_unsigned())
    }
}

async fn trigger(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    let trigger = format!(
        "create trigger accounts_recorded after insert or update or delete on accounts
         for each row execute function {schema}.record_change('id')"
    );
    connection.execute(AssertSqlSafe(trigger)).await?;
    Ok(())
}

/// A database with the application's table, and with tables that hold so many changes of another one.
pub(super) async fn seed(environment: &Environment, name: &str, history: u64) -> anyhow::Result<()> {
    let url = environment.sandbox.postgres.create_database(name, None).await?;
    add_timeline(&url).await?;
    let mut connection = PgConnection::connect(&url).await?;
    connection.execute(TABLE).await?;
    connection.execute("create schema library").await?;
    connection.execute(AssertSqlSafe(LIBRARY.replace("@schema@", "library"))).await?;
    // The function alone: the tables are there.
    connection.execute(AssertSqlSafe(LIBRARY.replace("@schema@", "public"))).await?;
    for schema in ["library", "public"] {
        connection.execute(AssertSqlSafe(past(schema, history))).await?;
    }
    connection.execute("vacuum (freeze, analyze)").await?;
    connection.close().await?;
    Ok(())
}

/// Five changes a transaction, of rows of another table.
fn past(schema: &str, history: u64) -> String {
    format!(
        "insert into {schema}.audit_transactions (txid, occurred_at)
         select -g, now() - interval '1 day' from generate_series(1, {history} / 5) g;
         insert into {schema}.audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
         select t.id, 'public', 'users', jsonb_build_object('id', (random() * 1000000)::int::text), 'insert',
                jsonb_build_object('id', n, 'email', 'user@example.test', 'note', 'a note of some words about this row'),
                t.occurred_at
         from {schema}.audit_transactions t cross join generate_series(1, 5) n"
    )
}
