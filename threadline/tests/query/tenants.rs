//! Two tenants with the same tables, keys, actors and ids, and what one of them may see.

use threadline::query::{Rule, Scope};

/// `MINE` and `OTHERS` stand in every column that can hold a text, beside what both have in common.
pub(crate) const TENANTS: &str = r"
insert into audit_actions (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at)
select md5('a' || n)::uuid, 'act.' || m, jsonb_build_object('type', 'user', 'id', 'u1', 'name', m), 'ok', m, m, m, m, case n % 4 / 2 when 0 then 'shared' else m end, m, m,
       timestamptz '2026-03-01Z' + n * interval '1 second'
from generate_series(0, 79) n cross join lateral (select (array['MINE', 'OTHERS'])[1 + n % 2] as m) m;
insert into audit_transactions (id, txid, occurred_at, actor_ref, source, correlation_id, request_id, job_id, meta, context, action_id)
select md5('t' || n)::uuid, n + 1, timestamptz '2026-03-01Z' + n * interval '1 second',
       jsonb_build_object('type', 'user', 'id', 'u1', 'name', m), m, case n % 4 / 2 when 0 then 'shared' else m end, m, m, jsonb_build_object('k', m),
       jsonb_build_object('tenant', m), case when n % 3 > 0 then md5('a' || n)::uuid end
from generate_series(0, 79) n cross join lateral (select (array['MINE', 'OTHERS'])[1 + n % 2] as m) m;
insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, data_before, changed_fields, changed_from, partition, captured_at)
select md5('t' || n)::uuid, 'public', 'posts', jsonb_build_object('id', (n / 2 % 5)::text), o.op,
       case when o.op <> 'delete' then jsonb_build_object('id', n / 2 % 5, 'tenant', m, 'text', m || n) end,
       case when o.op = 'delete' then jsonb_build_object('id', n / 2 % 5, 'tenant', m, 'text', m || n) end,
       case when o.op = 'update' then array['text'] end, case when o.op = 'update' then jsonb_build_object('text', m || '!') end,
       'public.posts_' || m, timestamptz '2026-03-01Z' + n * interval '1 second'
from generate_series(0, 79) n cross join lateral (select (array['MINE', 'OTHERS'])[1 + n % 2] as m) m
cross join lateral (select (array['insert', 'update', 'update', 'delete'])[1 + n / 2 % 4] as op) o";

pub(crate) const FILTERS: [&str; 24] = [
    "",
    "kind:change",
    "kind:action",
    "table:posts",
    "table:public.posts",
    "table:public.posts key:1",
    r#"table:public.posts key:{"id":"1"}"#,
    "op:update",
    "changed:text",
    "changed:text before:OTHERS!",
    "actor:user:u1",
    "actor:user:u1 table:posts",
    "action:act.OTHERS",
    "action:act.*",
    "action:act.OTHERS table:posts",
    "status:ok",
    "category:OTHERS",
    "correlation:shared",
    "correlation:OTHERS",
    "request:OTHERS",
    "job:OTHERS",
    "source:OTHERS",
    "text:OTHERS",
    "from:2026-03-01T00:00:10Z",
];

/// Ways to say that only what is the tenant's own can be seen.
pub(crate) fn scopes() -> Vec<(&'static str, Scope)> {
    let column = Rule::Column { name: "tenant".to_owned(), value: "MINE".to_owned() };
    let sql = Rule::Sql {
        condition: "coalesce(c.data_after, c.data_before) ->> 'tenant' = {value}",
        value: "MINE".to_owned(),
    };
    let own = Rule::ActionPrefix("act.MINE".to_owned());
    vec![
        ("context", Scope::of_context("tenant", "MINE")),
        ("column", Scope::nothing().changes(column.clone()).actions(own.clone())),
        ("column, no actions", Scope::nothing().changes(column)),
        ("actions alone", Scope::nothing().actions(own.clone())),
        ("a condition of the host's own", Scope::nothing().changes(sql).actions(own)),
        ("nothing", Scope::nothing()),
        ("another tenant", Scope::of_context("tenant", "somebody")),
        (
            "a table that there is none of",
            Scope::nothing().changes(Rule::Tables(vec!["public.none".to_owned()])),
        ),
    ]
}
