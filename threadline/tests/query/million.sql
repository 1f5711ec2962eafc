-- A million changes in 300,000 transactions over two months, 200,000 actions of which half are events; skewed as those of applications are.
insert into audit_actions (id, name, actor_ref, status, category, correlation_id, request_id, inserted_at)
select i.id, (array['auth.login', 'auth.login', 'auth.login', 'order.paid', 'order.paid', 'user.created'])[1 + n % 6],
       case when n % 3 = 0 then '{"type": "user", "id": "frequent"}'::jsonb
            when n % 2 = 0 then jsonb_build_object('type', 'user', 'id', 'u' || n % 5003) else '{"type": "system", "id": "cron"}' end,
       case when n % 50 = 0 then 'error' else 'ok' end, case when n % 4 = 0 then 'billing' end,
       case when n % 2 = 0 then i.id::text else 'c' || n / 7 end, case when n % 2 = 1 then 'r' || n end,
       timestamptz '2026-03-01 00:00:00Z' + n * interval '26 seconds'
from generate_series(1, 200000) n cross join lateral (select md5('a' || n)::uuid as id) i;
update audit_actions set name = 'user.suspended' where id in (select md5('a' || n)::uuid from generate_series(1000, 200000, 19000) n);

insert into audit_transactions (id, txid, occurred_at, actor_ref, source, correlation_id, request_id, action_id, context)
select md5('t' || n)::uuid, n, timestamptz '2026-03-01 00:00:00Z' + n * interval '17 seconds',
       case when n % 3 = 0 then '{"type": "user", "id": "frequent"}'::jsonb
            when n % 1000 = 1 then '{"type": "user", "id": "middle"}'
            when n % 60000 = 7 then '{"type": "user", "id": "rare"}'
            when n % 10 <> 5 then jsonb_build_object('type', 'user', 'id', 'u' || n % 5003) end,
       case when n % 2 = 0 then 'web' else 'job' end, case when n % 5 = 0 then 'c' || n / 11 end,
       case when n % 3 = 1 then 'r' || n end, case when n % 4 = 0 then md5('a' || n * 2 / 3)::uuid end,
       case when n % 2 = 0 then jsonb_build_object('tenant', 't' || n % 40) end
from generate_series(1, 300000) n;

insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, changed_from, captured_at)
select md5('c' || n)::uuid, md5('t' || 1 + n * 3 / 10)::uuid, 'public',
       case when n % 90001 = 0 then 'rare' when n % 2 = 0 then 'orders' when n % 3 = 0 then 'line_items' else 'table_' || n % 20 end,
       jsonb_build_object('id', (case when n % 100 = 0 then 1 else n % 60013 end)::text), o.op,
       case when o.op <> 'delete' then jsonb_build_object('id', n % 60013, 'price', n % 977 + 0.50, 'name', 'a text of some length ' || n, 'state', n % 7) end,
       case when o.op = 'update' then array['price'] end, case when o.op = 'update' then jsonb_build_object('price', (n + 1) % 977 + 0.50) end,
       timestamptz '2026-03-01 00:00:00Z' + (1 + n * 3 / 10) * interval '17 seconds' + n % 10 * interval '1 millisecond'
from generate_series(1, 999999) n
cross join lateral (select (array['insert', 'update', 'update', 'update', 'delete', 'update'])[1 + n % 6] as op) o;
vacuum analyze audit_actions;
vacuum analyze audit_transactions;
vacuum analyze audit_changes;
