//! What `deploy/` lets the pipeline do, on servers of the sandbox: a test sees what production would allow. The files are
//! applied as they are shipped; only names differ.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use threadline::StorageSchema;
use tokio::sync::Mutex;

use crate::nats::Configuration;

const SOURCE: &str = include_str!("../../deploy/postgres/source.sql");
const TIMELINE: &str = include_str!("../../deploy/postgres/timeline.sql");
const BROKER: &str = include_str!("../../deploy/nats/permissions.conf");

/// Roles are the whole cluster's: two that create or change one at the same time would be in each other's way.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Who owns the tests' databases, their tables and what `attach` and `install` make: a role that may do nothing beyond
/// them, as an application's is.
pub const OWNER: &str = "owner";

/// The sandbox's superuser.
const SUPERUSER: &str = "postgres";

/// Creates the [`OWNER`] where it is missing.
///
/// # Errors
/// When the server refuses.
pub async fn create_owner(superuser: &mut PgConnection) -> anyhow::Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
        .bind(OWNER)
        .fetch_one(&mut *superuser)
        .await?;
    if !exists {
        superuser.execute(AssertSqlSafe(format!("create role {OWNER} login"))).await?;
    }
    Ok(())
}

/// Applies `deploy/postgres/source.sql` to a source with an outbox.
///
/// # Errors
/// When the server refuses.
pub async fn grant_source(superuser: &mut PgConnection) -> anyhow::Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    superuser.execute(AssertSqlSafe(statements(SOURCE))).await?;
    Ok(())
}

/// Applies `deploy/postgres/timeline.sql` to Threadline's tables in `schema`.
///
/// # Errors
/// When the server refuses.
pub async fn grant_timeline(superuser: &mut PgConnection, schema: &StorageSchema) -> anyhow::Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    superuser.execute(AssertSqlSafe(statements(TIMELINE).replace("public", schema.as_str()))).await?;
    Ok(())
}

/// A file without the lines that are for psql.
#[must_use]
pub fn statements(file: &str) -> String {
    file.split_inclusive('\n').filter(|line| !line.starts_with('\\')).collect()
}

/// `deploy/nats/permissions.conf` for streams of any name and subjects such as `NAME.events`. Each user's password is its
/// name. Who names no user is none of these, and may do everything, as the sandbox and its tests do.
#[must_use]
pub fn of_broker() -> Configuration {
    const USERS: &str = "users: [";
    let named = BROKER.replace("SIGRA_AUDIT", "*").replace("sigra.audit.events", "*.events");
    let users = named.replacen(USERS, &format!("{USERS} {{ user: sandbox, password: sandbox }}"), 1);
    let password = |variable, user: &str| (variable, user.to_owned());
    Configuration {
        text: format!("no_auth_user: sandbox\n{users}"),
        variables: vec![
            password("AUDIT_PUBLISHER_PASSWORD", "publisher"),
            password("AUDIT_CONSUMER_PASSWORD", "consumer"),
            password("AUDIT_OPERATOR_PASSWORD", "operator"),
        ],
    }
}

/// The URL of a database for one of the roles. One that names another user than the sandbox's own stays as it is.
#[must_use]
pub fn as_role(url: &str, role: &str) -> String {
    let ours = [OWNER, SUPERUSER].map(|user| format!("//{user}@"));
    match ours.iter().find(|user| url.contains(user.as_str())) {
        Some(user) => url.replacen(user, &format!("//{role}@"), 1),
        None => url.to_owned(),
    }
}

/// The URL of a database for its server's superuser.
#[must_use]
pub fn as_superuser(url: &str) -> String {
    as_role(url, SUPERUSER)
}

/// The URL of a broker, or of several, for one of its users. One that names a user stays as it is.
#[must_use]
pub fn as_user(url: &str, user: &str) -> String {
    let server = |url: &str| match url.split_once("://") {
        Some((scheme, host)) if !host.contains('@') => format!("{scheme}://{user}:{user}@{host}"),
        _ => url.to_owned(),
    };
    url.split(',').map(server).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gets_a_user_unless_it_has_one() {
        assert_eq!(as_user("nats://h:1,nats://h:2", "u"), "nats://u:u@h:1,nats://u:u@h:2");
        assert_eq!(as_user("nats://a:b@h:1", "u"), "nats://a:b@h:1");
        assert_eq!(as_user("", "u"), "");
        assert_eq!(as_role("postgres://postgres@h:1/d", "r"), "postgres://r@h:1/d");
        assert_eq!(as_role("postgres://owner@h:1/d", "r"), "postgres://r@h:1/d");
        assert_eq!(as_role("postgres://a@h:1/d", "r"), "postgres://a@h:1/d");
    }
}
