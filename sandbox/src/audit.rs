//! Audit rows as an application would write them.

use common::identifier::{TableName, quote};
use serde::Serialize;
use sqlx::{Executor as _, PgConnection, migrate::Migrator};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// One row of `audit_events`, all columns.
#[derive(Debug, Clone, Serialize)]
pub struct AuditRow {
    /// Primary key.
    pub id: Uuid,
    /// UTC, without a zone in the column.
    #[serde(serialize_with = "as_text")]
    pub occurred_at: OffsetDateTime,
    /// Dotted name.
    pub action: String,
    /// `success`, `failure`, `error`.
    pub outcome: String,
    /// Who.
    pub actor_id: Option<Uuid>,
    /// What kind.
    pub actor_type: String,
    /// What was acted on.
    pub target_id: Option<Uuid>,
    /// Its kind.
    pub target_type: Option<String>,
    /// Tenant.
    pub organization_id: Option<Uuid>,
    /// The impersonated user.
    pub effective_user_id: Option<Uuid>,
    /// Where from.
    pub ip_address: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
    /// Free-form.
    pub metadata: serde_json::Value,
    /// The application's clock at insert.
    #[serde(serialize_with = "as_text")]
    pub inserted_at: OffsetDateTime,
}

fn as_text<S: serde::Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = time.format(&Rfc3339).map_err(serde::ser::Error::custom)?;
    // The column has no zone; PostgreSQL ignores one in the text, but nobody should have to know that.
    serializer.serialize_str(text.trim_end_matches('Z'))
}

impl AuditRow {
    /// A plain successful row, for tests that care about one field.
    #[must_use]
    pub fn sample(action: &str) -> Self {
        // Tests compare what comes back; PostgreSQL keeps microseconds.
        let now = common::broker::microseconds(OffsetDateTime::now_utc());
        Self {
            id: Uuid::new_v4(),
            occurred_at: now,
            action: action.to_owned(),
            outcome: "success".to_owned(),
            actor_id: Some(Uuid::new_v4()),
            actor_type: "user".to_owned(),
            target_id: None,
            target_type: None,
            organization_id: None,
            effective_user_id: None,
            ip_address: None,
            user_agent: None,
            metadata: serde_json::json!({}),
            inserted_at: now,
        }
    }
}

/// Creates the table in `schema`, as Sigra's installer would.
///
/// # Errors
/// When the server refuses.
pub async fn install(connection: &mut PgConnection, schema: &str) -> anyhow::Result<()> {
    static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/source");
    let schema = quote(schema);
    let prepare = format!("create schema if not exists {schema}; set search_path to {schema}");
    connection.execute(sqlx::AssertSqlSafe(prepare)).await?;
    let mut migrations = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrations.dangerous_set_table_name("source_migrations");
    migrations.run(&mut *connection).await?;
    connection.execute("reset search_path").await?;
    Ok(())
}

/// Inserts rows with one statement, in the connection's current transaction if there is one.
///
/// # Errors
/// When the server refuses.
pub async fn insert(
    connection: &mut PgConnection,
    table: &TableName,
    rows: &[AuditRow],
) -> anyhow::Result<()> {
    let table = table.quoted();
    let statement = format!("insert into {table} select * from jsonb_populate_recordset(null::{table}, $1)");
    sqlx::query(sqlx::AssertSqlSafe(statement)).bind(serde_json::to_value(rows)?).execute(connection).await?;
    Ok(())
}

/// The organizations that rows may name.
///
/// # Errors
/// When the server refuses.
pub async fn insert_organizations(
    connection: &mut PgConnection,
    table: &TableName,
    organizations: &[Uuid],
) -> anyhow::Result<()> {
    let statement = format!(
        "insert into {}.organizations (id, name) select id, 'Organization ' || id from unnest($1::uuid[]) id
         on conflict do nothing",
        quote(table.schema())
    );
    sqlx::query(sqlx::AssertSqlSafe(statement)).bind(organizations).execute(connection).await?;
    Ok(())
}
