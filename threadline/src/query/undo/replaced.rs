//! Whether the row that has a key now is the one that was changed.

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{Refused, net::Net, reason::Reason};
use crate::{StorageSchema, query::statement::Statement};

/// Those whose row is still the one that was changed: one that got its key later is another one, whatever it holds.
pub(super) async fn not_replaced(
    snapshot: &mut PgConnection,
    schema: &StorageSchema,
    nets: Vec<Net>,
    refused: &mut Vec<Refused>,
) -> Result<Vec<Net>, sqlx::Error> {
    let rows = statement(schema, &nets).fetch_all(snapshot).await?;
    let replaced: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let (gone, nets): (Vec<_>, Vec<_>) =
        nets.into_iter().partition(|net| net.last_update().is_some_and(|id| replaced.contains(&id)));
    refused.extend(gone.into_iter().map(|net| {
        let reason = "another row has got the key since; set back by hand what belongs to it";
        Reason::new("row_replaced", reason).of(&net.table, &net.changes, &net.key)
    }));
    Ok(nets)
}

/// Of the last changes `o` of rows: those after which a change `c` gave their key to a row, or deleted the row in their transaction
/// without being undone too. It was the same row where it came back, in another transaction, from the key to which a change `d` had
/// taken it and which nothing else `e` had got meanwhile.
fn statement(schema: &StorageSchema, nets: &[Net]) -> Statement {
    let changes = schema.table("audit_changes");
    let updated: Vec<Uuid> = nets.iter().filter_map(Net::last_update).collect();
    let undone: Vec<Uuid> = nets.iter().flat_map(|net| net.changes.iter().copied()).collect();
    let mut statement = Statement::new("select o.id from unnest(");
    statement.bind(updated).push(&format!(
        "::uuid[]) n (id) join {changes} o on o.id = n.id where exists (
             select from {changes} c
             where (c.table_schema, c.table_name, c.table_pk) = (o.table_schema, o.table_name, o.table_pk)
               and (c.captured_at, c.position) > (o.captured_at, o.position)
               and case when c.transaction_id <> o.transaction_id then c.op = 'insert' or c.key_before is not null
                        else (c.op = 'delete' or c.key_before is not null) and c.id <> all ("
    ));
    statement.bind(undone).push(&format!(
        "::uuid[]) end
               and not exists (
                 select from {changes} d
                 where (d.table_schema, d.table_name, d.table_pk) = (c.table_schema, c.table_name, c.key_before)
                   and d.key_before = c.table_pk and d.transaction_id <> c.transaction_id
                   and (d.captured_at, d.position) > (o.captured_at, o.position)
                   and (d.captured_at, d.position) < (c.captured_at, c.position)
                   and not exists (
                     select from {changes} e
                     where (e.table_schema, e.table_name, e.table_pk) = (d.table_schema, d.table_name, d.table_pk)
                       and (e.op = 'insert' or e.key_before is not null)
                       and (e.captured_at, e.position) > (d.captured_at, d.position)
                       and (e.captured_at, e.position) < (c.captured_at, c.position))))"
    ));
    statement
}
