//! `outbox.acts`: what people did to the pipeline, for whoever audits the audit. One documented function per statement.

use crate::session::Session;
use serde::Serialize;

/// One act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorAction<'a> {
    /// Who, as far as the system knows.
    pub actor: &'a str,
    /// What: `redrive`, `discard`, `unmask`, `rebase`, `change_dispatch`, `drop_reader`, `drop_durable`.
    pub kind: &'a str,
    /// What it was meant to reach, in words.
    pub filter: &'a str,
    /// How many rows it reached.
    pub count: u64,
    /// The stated reason, where one is asked for.
    pub reason: Option<&'a str>,
}

/// Records an act; call it in the transaction that does it. Returns its number.
///
/// # Errors
/// When the server is away.
pub async fn record(connection: &mut Session, action: &OperatorAction<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "insert into outbox.acts (actor, kind, filter, count, reason)
         values ($1 || ' as database role ' || session_user, $2, $3, $4, $5)
         returning id",
    )
    .bind(action.actor)
    .bind(action.kind)
    .bind(action.filter)
    .bind(action.count.cast_signed())
    .bind(action.reason)
    .fetch_one(connection)
    .await
}

/// Adds to the count of an act that goes on.
///
/// # Errors
/// When the server is away.
pub async fn extend(connection: &mut Session, id: i64, count: u64) -> Result<(), sqlx::Error> {
    sqlx::query("update outbox.acts set count = count + $2 where id = $1")
        .bind(id)
        .bind(count.cast_signed())
        .execute(connection)
        .await?;
    Ok(())
}

/// The person at the keyboard: the user behind `sudo`, else the login name.
#[must_use]
pub fn operator() -> String {
    let of = |name: &str| std::env::var(name).ok().filter(|user| !user.is_empty());
    of("SUDO_USER").or_else(|| of("USER")).or_else(|| of("LOGNAME")).unwrap_or_else(|| "somebody".to_owned())
}
