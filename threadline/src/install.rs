//! Creating the tables, over nothing or over what the Elixir library has created.

use sqlx::{Executor as _, PgConnection, migrate::Migrator};

use crate::StorageSchema;

/// Creates or completes Threadline's tables in `schema`. Idempotent.
///
/// # Errors
/// When the server is away or refuses; each step is a transaction of its own.
pub async fn install(connection: &mut PgConnection, schema: &StorageSchema) -> Result<(), sqlx::Error> {
    static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/threadline");
    let mut migrations = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrations.dangerous_set_table_name("threadline_migrations");
    // The statements name no schema: they run where the path leads. An index over a long table takes its time.
    let prepare = format!(
        "create schema if not exists \"{schema}\"; set search_path to \"{schema}\"; set statement_timeout = 0"
    );
    connection.execute(sqlx::AssertSqlSafe(prepare)).await?;
    let result =
        migrations.run(&mut *connection).await.map_err(|error| sqlx::Error::Migrate(Box::new(error)));
    connection.execute("reset search_path; reset statement_timeout").await?;
    result
}
