//! The policy that is stored beside the triggers of a table, and what the table and the functions were when they were made.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::{
    names::HostTable,
    policy::{Level, Policy},
    render::Capture,
};
use crate::StorageSchema;

/// A row of `threadline_capture_policies`.
#[derive(Debug, Clone)]
pub(crate) struct StoredPolicy {
    /// As it was called when its triggers were made.
    pub(crate) table: HostTable,
    pub(crate) oid: i64,
    pub(crate) level: Level,
    /// `None` for one that cannot be read.
    pub(crate) policy: Option<Policy>,
    pub(crate) generator: i32,
    pub(crate) shape: Shape,
    /// Since when capture is switched off, by whom and why.
    pub(crate) off: Option<Value>,
}

/// What the triggers were made for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Shape {
    /// Names of key columns, in order.
    pub(crate) key: Vec<String>,
    /// Numbers of all columns.
    pub(crate) numbers: BTreeMap<String, i16>,
    /// Names of virtual columns.
    #[serde(rename = "virtual")]
    pub(crate) virtual_columns: Vec<String>,
    /// Digests of the bodies of functions, by name.
    pub(crate) functions: BTreeMap<String, String>,
}

#[derive(FromRow)]
struct Row {
    schema: String,
    name: String,
    oid: i64,
    level: String,
    policy: Value,
    generator: i32,
    off: Option<Value>,
}

/// What is stored of a capture, without its level.
pub(super) fn document(capture: &Capture) -> Value {
    let policy = &capture.policy;
    let functions: Map<String, Value> =
        capture.functions().iter().map(|one| (one.name.clone(), one.digest().into())).collect();
    json!({
        "exclude": policy.exclude,
        "mask": policy.mask,
        "mask_placeholder": policy.mask_placeholder,
        "hash": policy.hash,
        "hash_key": policy.hash_key,
        "paths": policy.paths.iter().map(|path| path.join(".")).collect::<Vec<_>>(),
        "except": policy.except,
        "primary_key": policy.primary_key,
        "store_changed_from": policy.store_changed_from,
        "strict": policy.strict,
        "key": capture.key,
        "numbers": capture.table.numbers(),
        "virtual": capture.table.virtual_columns(),
        "functions": functions,
    })
}

impl StoredPolicy {
    /// All of a timeline, as far as its tables have a place for them.
    ///
    /// # Errors
    /// When the server is away, or the role may not read them.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<Vec<Self>, sqlx::Error> {
        Self::read_of(connection, storage, None).await
    }

    /// The same, of one table where one is named.
    pub(crate) async fn read_of(
        connection: &mut PgConnection,
        storage: &StorageSchema,
        table: Option<&HostTable>,
    ) -> Result<Vec<Self>, sqlx::Error> {
        let policies = storage.table("threadline_capture_policies");
        let is_there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(&policies)
            .fetch_one(&mut *connection)
            .await?;
        if !is_there {
            return Ok(Vec::new());
        }
        let statement = format!(
            "select table_schema as schema, table_name as name, table_oid::int8 as oid, level, policy, generator, off
             from {policies} where $1::text is null or (table_schema, table_name) = ($1, $2) order by table_schema, table_name"
        );
        let query = sqlx::query_as(AssertSqlSafe(statement));
        let query = query.bind(table.map(|table| &table.schema)).bind(table.map(|table| &table.name));
        let rows: Vec<Row> = query.fetch_all(connection).await?;
        Ok(rows.into_iter().map(Self::from).collect())
    }
}

impl From<Row> for StoredPolicy {
    fn from(row: Row) -> Self {
        let table = HostTable { schema: row.schema, name: row.name };
        let shape = Shape::deserialize(&row.policy).unwrap_or_default();
        let level = if row.level == "row" { Level::Row } else { Level::Statement };
        let policy = options(row.policy).and_then(|options| Policy::read(&table, &options).ok());
        Self { table, oid: row.oid, level, policy, generator: row.generator, shape, off: row.off }
    }
}

/// The part that settings have too.
fn options(document: Value) -> Option<Map<String, Value>> {
    let Value::Object(mut options) = document else { return None };
    for of_the_shape in ["key", "numbers", "virtual", "functions"] {
        options.remove(of_the_shape);
    }
    // Settings have no empty key.
    if options.get("primary_key") == Some(&json!([])) {
        options.remove("primary_key");
    }
    Some(options)
}
