//! Creating the tables, over nothing or over what the Elixir library has created.

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection,
    migrate::{Migrate as _, MigrateError, Migrator},
};

use crate::{
    StorageSchema,
    schema_status::{self, TABLES},
};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Creates or completes Threadline's tables in `schema`. Idempotent. Looks at what is there, whatever the table of migrations says:
/// answers which tables somebody had dropped, and are there again, empty.
///
/// # Errors
/// When the server is away or refuses; each step is a transaction of its own. When the tables are of a newer version.
pub async fn install(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Vec<String>, sqlx::Error> {
    if let Some(version) = newer(connection, schema).await? {
        let why = format!(
            "Threadline's tables in schema {schema} are of a newer version (migration {version}; this binary knows {}): use a \
             newer threadline",
            newest()
        );
        return Err(sqlx::Error::Configuration(why.into()));
    }
    let mut migrations = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrations.dangerous_set_table_name(schema_status::MIGRATIONS);
    // The statements name no schema: they run where the path leads. An index over a long table takes its time.
    let prepare = format!(
        "create schema if not exists \"{schema}\"; set search_path to \"{schema}\"; set statement_timeout = 0"
    );
    connection.execute(AssertSqlSafe(prepare)).await?;
    let result = make(connection, schema, &migrations).await;
    connection.execute("reset search_path; reset statement_timeout").await?;
    result
}

async fn make(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    migrations: &Migrator,
) -> Result<Vec<String>, sqlx::Error> {
    let migrate = |error| sqlx::Error::Migrate(Box::new(error));
    let adopted = adopt(connection, schema).await?;
    migrations.run(&mut *connection).await.map_err(migrate)?;
    let mut anew = complete(connection, schema).await?;
    anew.extend(adopted.then(|| schema_status::MIGRATIONS.to_owned()));
    Ok(anew)
}

/// Whether somebody has dropped the table of migrations. Then it is made again, and says that those have run that cannot run
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
        for migration in MIGRATIONS.migrations.iter().filter(|one| makes_receipts(one.sql.as_str())) {
            transaction.skip(schema_status::MIGRATIONS, migration).await?;
        }
        Ok::<_, MigrateError>(())
    };
    adopted.await.map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
    transaction.commit().await?;
    Ok(true)
}

/// Of a migration: all but this one say "if not exists".
fn makes_receipts(statements: &str) -> bool {
    statements.contains("create table audit_receipts")
}

/// Makes tables again that migrations have made and somebody has dropped.
async fn complete(connection: &mut PgConnection, schema: &StorageSchema) -> Result<Vec<String>, sqlx::Error> {
    let missing: Vec<String> = sqlx::query_scalar(
        "select w.name from unnest($2::text[]) w (name)
         where not exists (select from pg_class t join pg_namespace n on n.oid = t.relnamespace
                           where n.nspname = $1 and t.relname = w.name)",
    )
    .bind(schema.as_str())
    .bind(TABLES)
    .fetch_all(&mut *connection)
    .await?;
    if missing.is_empty() {
        return Ok(missing);
    }
    for migration in MIGRATIONS.migrations.iter() {
        if !makes_receipts(migration.sql.as_str()) || missing.iter().any(|name| name == "audit_receipts") {
            connection.execute(migration.sql.clone()).await?;
        }
    }
    Ok(missing)
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
