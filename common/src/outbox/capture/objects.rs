//! What the migrations make, compared with what is there: a table of migrations says what was made once, not what has been
//! dropped since.

use sqlx::{
    AssertSqlSafe, Executor as _, SqlSafeStr as _,
    migrate::{Migrate as _, Migrator},
};

use super::catalog;
use crate::{outbox::OutboxError, session::Session};

/// The table of migrations, in the schema.
pub(crate) const TABLE: &str = "migrations";

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/outbox");

/// The newest migration that this binary knows.
#[must_use]
pub fn newest() -> i64 {
    MIGRATIONS.migrations.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Whether the database has seen migrations that this binary does not know, and all that it knows.
///
/// # Errors
/// When there are newer ones.
pub(crate) fn compare(applied: &[i64]) -> Result<bool, OutboxError> {
    let known = newest();
    match applied.iter().copied().max().filter(|found| *found > known) {
        Some(found) => Err(OutboxError::Newer { found, known }),
        None => Ok(MIGRATIONS.migrations.iter().all(|migration| applied.contains(&migration.version))),
    }
}

/// The migrations, for a run.
pub(crate) fn migrator() -> Migrator {
    let mut migrations = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrations.dangerous_set_table_name(migrator_table());
    migrations
}

/// Tables, views and functions of the schema that are not there; each without its schema.
///
/// # Errors
/// When the server is away.
pub async fn missing(connection: &mut Session) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select w.name from unnest($1::text[]) w (name)
         where not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                           where n.nspname = 'outbox' and c.relname = w.name)
           and not exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                           where n.nspname = 'outbox' and p.proname = w.name)",
    )
    .bind(created_objects())
    .fetch_all(connection)
    .await
}

/// The migrations that the database has seen; `None` where the role may not look.
///
/// # Errors
/// When the server is away.
pub async fn applied(connection: &mut Session) -> Result<Option<Vec<i64>>, sqlx::Error> {
    let is_readable: bool = sqlx::query_scalar(
        "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                        where n.nspname = 'outbox' and c.relname = 'migrations'
                          and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !is_readable {
        return Ok(None);
    }
    sqlx::query_scalar("select version from outbox.migrations").fetch_all(connection).await.map(Some)
}

/// Whether the table of migrations was dropped, and nothing else or not all else.
///
/// # Errors
/// When the server is away.
pub async fn has_lost_its_migrations(connection: &mut Session) -> Result<bool, sqlx::Error> {
    let missing = missing(connection).await?;
    let has_table: bool = sqlx::query_scalar(
        "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                        where n.nspname = 'outbox' and c.relname = $1)",
    )
    .bind(TABLE)
    .fetch_one(connection)
    .await?;
    Ok(!has_table && missing.len() < created_objects().len())
}

/// Makes the table of migrations again, where what is there is what this version makes.
///
/// # Errors
/// When it is not: it is unknown which migrations made it.
pub(crate) async fn adopt(connection: &mut Session) -> Result<(), sqlx::Error> {
    let missing = missing(connection).await?;
    let differences: Vec<_> =
        catalog::differences(connection).await?.into_iter().filter(|one| one.function.is_none()).collect();
    if let Some(first) = differences.first() {
        let why = format!(
            "outbox.{TABLE} was dropped, and the rest of the schema is not what this version makes{}: {}. Run `publisher \
             attach` of the version that made it, or make it so ({}), and run this again",
            if missing.is_empty() { String::new() } else { format!(" (it lacks {})", missing.join(", ")) },
            first.what,
            first.remedy
        );
        return Err(sqlx::Error::Configuration(why.into()));
    }
    let name = migrator_table();
    let mut transaction = connection.begin().await?;
    let raw = transaction.direct()?;
    let adopted = async {
        raw.ensure_migrations_table(&name).await?;
        for migration in MIGRATIONS.migrations.iter() {
            raw.skip(&name, migration).await?;
        }
        Ok::<_, sqlx::migrate::MigrateError>(())
    };
    adopted.await.map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
    transaction.commit().await
}

fn migrator_table() -> String {
    format!("outbox.{TABLE}")
}

/// Makes again, in one transaction, what is missing although the migrations have run, or is another function: with the statements of
/// the migrations that are about it, in their order.
pub(crate) async fn recreate(connection: &mut Session, missing: &[String]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    for statement in statements() {
        let about = subjects(&statement);
        let concerned =
            if statement.starts_with("revoke") { &about[..] } else { about.get(..1).unwrap_or_default() };
        if concerned.iter().any(|name| missing.contains(name)) {
            // A trigger may use the other one.
            let statement = statement.replacen("create function", "create or replace function", 1);
            transaction.execute(AssertSqlSafe(statement).into_sql_str()).await?;
        }
    }
    transaction.commit().await
}

/// The names of what the migrations make and do not drop again.
fn created_objects() -> Vec<String> {
    let mut made: Vec<String> = Vec::new();
    for statement in statements() {
        let Some(name) = subjects(&statement).into_iter().next() else { continue };
        let starts = |words: &[&str]| words.iter().any(|words| statement.starts_with(words));
        if starts(&["create table", "create view", "create function", "create or replace"])
            && !made.contains(&name)
        {
            made.push(name);
        } else if starts(&["drop table", "drop view", "drop function"]) {
            made.retain(|other| *other != name);
        }
    }
    made
}

/// All statements, in order, without the comments before them.
fn statements() -> Vec<String> {
    MIGRATIONS.migrations.iter().flat_map(|migration| split(migration.sql.as_str())).collect()
}

/// At semicolons outside of comments, quotes and dollar quotes.
fn split(text: &str) -> Vec<String> {
    let (mut found, mut statement, mut rest) = (Vec::new(), String::new(), text);
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(body) = rest.strip_prefix("$$") {
            body.find("$$").map_or(rest.len(), |at| at + 4)
        } else if first == '\'' {
            rest[1..].find('\'').map_or(rest.len(), |at| at + 2)
        } else {
            first.len_utf8()
        };
        let (part, behind) = rest.split_at(length);
        if part == ";" {
            found.push(std::mem::take(&mut statement));
        } else if !(statement.is_empty() && (part.starts_with("--") || part.trim().is_empty())) {
            statement.push_str(part);
        }
        rest = behind;
    }
    found
}

/// The names in the schema that a statement mentions outside of comments, first the one that it is about.
fn subjects(statement: &str) -> Vec<String> {
    let name =
        |text: &str| text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
    statement.split("outbox.").skip(1).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_split_outside_of_comments_and_quotes() {
        let text = "-- a; b\ncreate table outbox.a (x text default 'p;q'); -- c\n\ncreate function outbox.b() as $$ x; y $$;\n";
        assert_eq!(
            split(text),
            ["create table outbox.a (x text default 'p;q')", "create function outbox.b() as $$ x; y $$"]
        );
        assert_eq!(subjects("create index i on outbox.rounds (outbox.f(x))"), ["rounds", "f"]);
    }

    #[test]
    fn what_the_migrations_make_is_known() {
        let made = created_objects();
        for name in [
            "entries",
            "source",
            "capture",
            "rounds",
            "failures",
            "acts",
            "undelivered",
            "safe_before",
            "reconciled",
        ] {
            assert!(made.iter().any(|made| made == name), "{name}: {made:?}");
        }
    }
}
