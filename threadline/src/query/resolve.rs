//! The names of the columns of a key, where its value alone is given.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _};

use super::{Filter, Key, ReadError, Reader, statement::Statement};

/// Changes that are visited at most.
const VISITED: i64 = 1_000;

/// The filter with the key as it is stored, as far as the newest changes of the table say how it is made. A scope that hides something
/// is not looked around: there the value alone is compared.
pub(super) async fn key(
    connection: &mut PgConnection,
    reader: &Reader,
    filter: &Filter,
) -> Result<Filter, ReadError> {
    let mut resolved = filter.clone();
    let (Some(table), Some(Key::Value(value))) = (&filter.table, &filter.key) else { return Ok(resolved) };
    if !reader.scope.is_everything() {
        return Ok(resolved);
    }
    let changes = reader.schema.table("audit_changes");
    let mut newest = Statement::new(format!(
        "select array_agg(distinct k.name) from (select c.* from {changes} c where c.table_name >= "
    ));
    // Otherwise the index of all changes is in order too, and may be taken.
    newest.bind(&table.name).push(" and c.table_name <= ").bind(&table.name);
    newest.push(" order by c.table_name desc, c.captured_at desc, c.id desc limit ").bind(VISITED).push(
        ") c cross join lateral (select min(k) as name
              from jsonb_object_keys(case jsonb_typeof(c.table_pk) when 'object' then c.table_pk else '{}' end) k
              having count(*) = 1) k",
    );
    if let Some(schema) = &table.schema {
        newest.push(" where c.table_schema = ").bind(schema);
    }
    let found = newest.query().fetch_one(connection).await?;
    // Where there are several, each change is compared.
    if let [column] = &found.try_get::<Option<Vec<String>>, _>(0)?.unwrap_or_default()[..] {
        resolved.key = Some(Key::Columns(BTreeMap::from([(column.clone(), value.clone())])));
    }
    Ok(resolved)
}
