//! `--schema` of commands that look at the host's tables.

use anyhow::Context as _;
use sqlx::PgConnection;
use threadline::capture::Refusal;

/// A name as the Elixir library's commands take it.
pub(crate) fn parse(name: &str) -> Result<String, String> {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let continues = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if starts && continues && name.len() <= 63 {
        Ok(name.to_owned())
    } else {
        Err("expected 1 to 63 lower-case letters, digits and underscores, not starting with a digit"
            .to_owned())
    }
}

/// Refuses one that is not there.
pub(crate) async fn look_up(connection: &mut PgConnection, name: &str) -> anyhow::Result<()> {
    let is_there: bool = sqlx::query_scalar("select exists (select from pg_namespace where nspname = $1)")
        .bind(name)
        .fetch_one(connection)
        .await
        .context("cannot look for the schema")?;
    if is_there {
        return Ok(());
    }
    Err(Refusal {
        term: "schema_missing",
        reason: format!("there is no schema {name}"),
        hint: Some("--all-schemas shows those that have tables".to_owned()),
    }
    .into())
}
