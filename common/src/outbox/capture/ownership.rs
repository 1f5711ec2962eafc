//! Whose the schema `outbox` is. The capture function runs with the rights of its owner, in every insert of the application: what
//! it touches has to be its owner's too, whichever role made it.

use sqlx::Executor as _;

use crate::session::Session;

/// Gives what is in the schema to the schema's owner, as far as the connection's role may.
///
/// # Errors
/// When the server is away.
pub(crate) async fn hand_over(connection: &mut Session) -> Result<(), sqlx::Error> {
    connection
        .execute(
            "do $do$
             declare
                 statement text;
             begin
                 for statement in
                     select format('alter %s %s owner to %I', o.kind, o.name, pg_get_userbyid(n.nspowner))
                     from pg_namespace n
                     cross join lateral (
                         select 'function' as kind, p.oid::regprocedure::text as name, p.proowner as owner
                         from pg_proc p where p.pronamespace = n.oid
                         union all
                         select case c.relkind when 'v' then 'view' else 'table' end, c.oid::regclass::text, c.relowner
                         from pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'v')) o
                     where n.nspname = 'outbox' and o.owner <> n.nspowner
                 loop
                     begin
                         execute statement;
                     exception when insufficient_privilege then
                         null;
                     end;
                 end loop;
             end
             $do$",
        )
        .await
        .map(drop)
}

/// Makes the schema's owner the maker of whatever is made next, until [`reset`].
///
/// # Errors
/// When the server is away.
pub(crate) async fn become_owner(connection: &mut Session) -> Result<(), sqlx::Error> {
    let owner: Option<String> = sqlx::query_scalar(
        "select quote_ident(pg_get_userbyid(nspowner)) from pg_namespace
         where nspname = 'outbox' and pg_get_userbyid(nspowner) <> current_user
           and (select r.rolsuper from pg_roles r where r.rolname = current_user)",
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(owner) = owner {
        connection.execute(sqlx::AssertSqlSafe(format!("set role {owner}"))).await?;
    }
    Ok(())
}

/// Back to the connection's own role.
///
/// # Errors
/// When the server is away.
pub(crate) async fn reset(connection: &mut Session) -> Result<(), sqlx::Error> {
    connection.execute("reset role").await.map(drop)
}

/// As whom the capture function runs, and what of that role's rights it lacks; `None` when nothing.
///
/// # Errors
/// When the server is away.
pub async fn lacking(connection: &mut Session) -> Result<Option<(String, String)>, sqlx::Error> {
    sqlx::query_as(
        "select pg_get_userbyid(f.proowner)::text, string_agg(n.privilege || ' ' || n.object, ', ')
         from (values ('outbox.capture()', 'insert into', 'outbox.entries', '{audit_event_id,occurred_at}'),
                      ('outbox.capture()', 'insert into', 'outbox.missed', '{relation,sqlstate,cause}'),
                      ('outbox.capture()', 'execute', 'outbox.base_type(oid)', '{}'),
                      ('outbox.capture()', 'execute', 'outbox.reread(record, oid)', '{}'),
                      ('outbox.capture()', 'execute', 'outbox.unreadable(oid)', '{}'),
                      ('outbox.reread(record, oid)', 'select from', 'outbox.source', '{relation,id_number}'),
                      ('outbox.reread(record, oid)', 'execute', 'outbox.base_type(oid)', '{}')) n (function, privilege, object, columns)
         join pg_proc f on f.oid = to_regprocedure(n.function)
         where not coalesce(has_schema_privilege(f.proowner, 'outbox', 'usage')
                            and case n.privilege when 'execute' then has_function_privilege(f.proowner, to_regprocedure(n.object), 'execute')
                                     else (select bool_and(has_column_privilege(f.proowner, a.attrelid, a.attnum, split_part(n.privilege, ' ', 1)))
                                           from pg_attribute a
                                           where a.attrelid = to_regclass(n.object) and not a.attisdropped
                                             and a.attname = any (n.columns::name[])) end, true)
         group by f.proowner order by 1 limit 1",
    )
    .fetch_optional(connection)
    .await
}
