//! Creating the tables, over nothing or over what the Elixir library has created.

use std::time::{Duration, Instant};

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection,
    migrate::{Migrate as _, MigrateError, Migrator},
};

use crate::{
    StorageSchema,
    catalog::{self, Property},
    partitions::{self, Layout},
    schema_status,
};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The one that says "create" without "if not exists".
const RECEIPTS: &str = "create table audit_receipts";

/// Before a session that waits for a lock is looked at by the server's search for deadlocks, which ends a writer as soon as us.
const YIELD: &str = "select pg_catalog.set_config('lock_timeout',
    (select least(400, greatest(1, s.setting::int / 2)) from pg_catalog.pg_settings s where s.name = 'deadlock_timeout')::text, false)";

/// The number is ours alone.
const ONE_AT_A_TIME: &str = "select pg_catalog.pg_advisory_lock(7020114832104)";
const ENDED: &str = "select pg_catalog.pg_advisory_unlock(7020114832104)";

/// How long locks are requested again.
const LOCKED_LIMIT: Duration = Duration::from_secs(60);

/// Writers that queued behind us go on meanwhile.
const LOCKED_PAUSE: Duration = Duration::from_millis(600);

/// What an installation found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installation {
    /// Tables that had been dropped, and are there again, empty.
    pub recreated: Vec<String>,
    /// What else was missing and is there now, in words.
    pub added: Vec<String>,
    /// Indexes and foreign keys that something else does the work of now, and that are gone, in words.
    pub replaced: Vec<String>,
    /// What is missing and could not be made over what is there, in words.
    pub lacking: Vec<String>,
    /// Months of changes that have a partition now.
    pub partitions: Vec<String>,
}

/// Creates or completes Threadline's tables and functions in `schema`. Idempotent. Looks at what is there, whatever the table of
/// migrations says.
///
/// # Errors
/// When the server is away or refuses; each step is a transaction of its own. When the tables are of a newer version, or an index
/// is one that an interrupted build has left.
pub async fn install(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Installation, sqlx::Error> {
    install_as(connection, schema, Layout::AsItIs).await
}

/// The same, with changes stored in that layout.
///
/// # Errors
/// As [`install`]; and when changes are stored in another layout already.
pub async fn install_as(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    layout: Layout,
) -> Result<Installation, sqlx::Error> {
    if let Some(version) = newer(connection, schema).await? {
        let why = format!(
            "Threadline's tables in schema {schema} are of a newer version (migration {version}; this binary knows {}): use a \
             newer threadline",
            newest()
        );
        return Err(sqlx::Error::Configuration(why.into()));
    }
    let invalid = catalog::invalid_indexes(connection, schema).await?;
    if !invalid.is_empty() {
        let drops: Vec<String> =
            invalid.iter().map(|index| format!("drop index concurrently \"{schema}\".\"{index}\"")).collect();
        let why = format!(
            "indexes in schema {schema} are not valid, an interrupted build has left them or a build is in progress: {}. When none is \
             on, run {}; then install again",
            invalid.join(", "),
            drops.join("; ")
        );
        return Err(sqlx::Error::Configuration(why.into()));
    }
    // It would keep its lock after an error.
    let mut migrations =
        Migrator { migrations: MIGRATIONS.migrations.clone(), locking: false, ..Migrator::DEFAULT };
    migrations.dangerous_set_table_name(schema_status::MIGRATIONS);
    // The statements name no schema: they run where the path leads. An index over a long table takes its time.
    create_schema(connection, schema).await?;
    let prepare =
        format!("set search_path to \"{schema}\"; set statement_timeout = 0; {ONE_AT_A_TIME}; {YIELD}");
    connection.execute(AssertSqlSafe(prepare)).await?;
    let result = make_patiently(connection, schema, (&migrations, layout)).await;
    let end = format!("reset search_path; reset statement_timeout; reset lock_timeout; {ENDED}");
    connection.execute(AssertSqlSafe(end)).await?;
    result
}

/// To create nothing needs no right.
async fn create_schema(connection: &mut PgConnection, schema: &StorageSchema) -> Result<(), sqlx::Error> {
    let is_there: bool =
        sqlx::query_scalar("select exists (select from pg_catalog.pg_namespace where nspname = $1)")
            .bind(schema.as_str())
            .fetch_one(&mut *connection)
            .await?;
    if !is_there {
        let create = format!("create schema if not exists \"{schema}\"");
        connection.execute(AssertSqlSafe(create)).await?;
    }
    Ok(())
}

/// Gives way to writers: a lock that cannot be had before the server looks for deadlocks is given up, with all others, and requested
/// again a little later. Each step is a transaction of its own, and what is done stays done.
async fn make_patiently(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    (migrations, layout): (&Migrator, Layout),
) -> Result<Installation, sqlx::Error> {
    let before = catalog::lacking(connection, schema).await?;
    let replaceable = catalog::replaceable(connection, schema).await?;
    let started = Instant::now();
    loop {
        match make(connection, schema, (migrations, layout), (&before, &replaceable)).await {
            Err(error) if is_locked(&error) && started.elapsed() < LOCKED_LIMIT => {
                tokio::time::sleep(LOCKED_PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Whether a lock could not be had in time.
#[must_use]
pub fn is_locked(error: &sqlx::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(sqlx::Error::Database(database)) = error.downcast_ref::<sqlx::Error>() {
            return database.code().as_deref() == Some("55P03");
        }
        cause = error.source();
    }
    false
}

async fn make(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    (migrations, layout): (&Migrator, Layout),
    (before, replaceable): (&[Property], &[Property]),
) -> Result<Installation, sqlx::Error> {
    let missing_tables = |lacking: &[Property]| -> Vec<String> {
        lacking.iter().filter(|one| one.kind == "table").map(|one| one.object.clone()).collect()
    };
    let is_fresh = missing_tables(before).len() == catalog::tables().len();
    let applied = applied(connection, schema).await?;
    let mut recreated: Vec<String> =
        missing_tables(before).into_iter().filter(|table| was_made(table, &applied)).collect();
    let adopted = adopt(connection, schema).await?;
    partitions::lay_out(connection, schema, layout).await?;
    if !recreated.is_empty() {
        // A migration that is still to run may be about them.
        repeat(connection, |migration| !migration.contains(RECEIPTS)).await?;
    }
    migrations.run(&mut *connection).await.map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
    let mut lacking = catalog::lacking(connection, schema).await?;
    if !lacking.is_empty() {
        let has_no_receipts = missing_tables(&lacking).iter().any(|table| table == "audit_receipts");
        repeat(connection, |migration| has_no_receipts || !migration.contains(RECEIPTS)).await?;
        add_columns(connection, schema, &lacking).await?;
        repeat(connection, |migration| !migration.contains(RECEIPTS)).await?;
        lacking = catalog::lacking(connection, schema).await?;
    }
    let partitions = partitions::prepare(connection, schema).await?;
    let whole =
        |one: &&Property| !recreated.contains(&one.object) && one.kind != "table" || one.kind == "function";
    let added = before.iter().filter(|one| !is_fresh && !lacking.contains(one)).filter(whole);
    let added = added.map(Property::describe).collect();
    let kept = catalog::replaceable(connection, schema).await?;
    let replaced = replaceable.iter().filter(|one| !kept.contains(one)).map(Property::describe).collect();
    recreated.extend(adopted.then(|| schema_status::MIGRATIONS.to_owned()));
    Ok(Installation {
        recreated,
        added,
        replaced,
        lacking: lacking.iter().map(Property::describe).collect(),
        partitions,
    })
}

/// Runs migrations again; all but one say "if not exists" or "or replace".
async fn repeat(connection: &mut PgConnection, wanted: impl Fn(&str) -> bool) -> Result<(), sqlx::Error> {
    for migration in MIGRATIONS.migrations.iter().filter(|one| wanted(one.sql.as_str())) {
        connection.execute(migration.sql.clone()).await?;
    }
    Ok(())
}

/// Adds columns that no statement of a migration adds to a table that is there. One that must have a value is left to people.
async fn add_columns(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    lacking: &[Property],
) -> Result<(), sqlx::Error> {
    let made = catalog::made();
    for column in lacking.iter().filter(|one| one.kind == "column") {
        let needs_value = made
            .iter()
            .any(|one| one.kind == "not null" && one.object == column.object && one.name == column.name);
        if !needs_value {
            let statement = format!(
                "alter table \"{schema}\".\"{}\" add column if not exists \"{}\" {}",
                column.object, column.name, column.definition
            );
            connection.execute(AssertSqlSafe(statement)).await?;
        }
    }
    Ok(())
}

/// Migrations that have run, as far as the table of them is there.
async fn applied(connection: &mut PgConnection, schema: &StorageSchema) -> Result<Vec<i64>, sqlx::Error> {
    let has_table: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(schema.table(schema_status::MIGRATIONS))
        .fetch_one(&mut *connection)
        .await?;
    if !has_table {
        return Ok(Vec::new());
    }
    let statement = format!("select version from {}", schema.table(schema_status::MIGRATIONS));
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(connection).await
}

/// Whether one of these migrations makes the table.
fn was_made(table: &str, applied: &[i64]) -> bool {
    let creates = |sql: &str| {
        ["create table if not exists", "create table"]
            .iter()
            .any(|words| sql.contains(&format!("{words} {table} (")))
    };
    MIGRATIONS.migrations.iter().any(|one| applied.contains(&one.version) && creates(one.sql.as_str()))
}

/// The tables of the timeline, which capture has to leave alone.
pub(crate) fn owned_tables() -> Vec<&'static str> {
    let mut tables = catalog::tables();
    tables.push(schema_status::MIGRATIONS);
    tables
}

/// Whether the table of migrations was dropped. Then it is made again, and says that those have run that cannot run
/// twice; all others say "if not exists".
async fn adopt(connection: &mut PgConnection, schema: &StorageSchema) -> Result<bool, sqlx::Error> {
    let (has_receipts, has_migrations): (bool, bool) = sqlx::query_as(
        "select coalesce(bool_or(c.relname = 'audit_receipts'), false), coalesce(bool_or(c.relname = $2), false)
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1",
    )
    .bind(schema.as_str())
    .bind(schema_status::MIGRATIONS)
    .fetch_one(&mut *connection)
    .await?;
    if has_migrations || !has_receipts {
        return Ok(false);
    }
    let mut transaction = connection.begin().await?;
    let adopted = async {
        transaction.ensure_migrations_table(schema_status::MIGRATIONS).await?;
        for migration in MIGRATIONS.migrations.iter().filter(|one| one.sql.as_str().contains(RECEIPTS)) {
            transaction.skip(schema_status::MIGRATIONS, migration).await?;
        }
        Ok::<_, MigrateError>(())
    };
    adopted.await.map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
    transaction.commit().await?;
    Ok(true)
}

/// The newest migration that this binary knows.
#[must_use]
pub fn newest() -> i64 {
    MIGRATIONS.migrations.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// The newest migration of a database that a newer version has migrated; `None` where the role may not look.
///
/// # Errors
/// When the server is away.
pub async fn newer(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Option<i64>, sqlx::Error> {
    let is_readable: bool = sqlx::query_scalar(
        "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                        where n.nspname = $1 and c.relname = 'threadline_migrations'
                          and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))",
    )
    .bind(schema.as_str())
    .fetch_one(&mut *connection)
    .await?;
    if !is_readable {
        return Ok(None);
    }
    let statement = format!("select max(version) from {}", schema.table("threadline_migrations"));
    let version: Option<i64> = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(connection).await?;
    Ok(version.filter(|version| *version > newest()))
}
