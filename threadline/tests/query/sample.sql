-- A timeline of two tables, some actors, and everything that a filter can ask for; skewed, and with times that are equal.
insert into audit_actions (id, name, actor_ref, status, category, reason, correlation_id, request_id, job_id, inserted_at)
select case when n % 3 = 0 then ('e0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid else ('a0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid end,
       (array['user.suspended', 'user.created', 'order.paid', 'auth.login'])[1 + n % 4],
       case when n % 5 = 0 then '{"type": "anonymous"}' when n % 2 = 0 then '{"type": "user", "id": "u1"}'
            else jsonb_build_object('type', 'admin', 'id', 'a' || n % 7) end,
       case when n % 6 = 0 then 'error' else 'ok' end,
       case when n % 4 = 1 then 'billing' end,
       case when n % 10 = 0 then 'It was 100% FRAUD_ulent' end,
       case when n % 3 = 0 then 'e0000000-0000-4000-8000-' || lpad(n::text, 12, '0') when n % 3 = 1 then 'c' || n % 11 end,
       case when n % 8 = 0 then 'r' || n % 16 end, case when n % 9 = 0 then 'j1' end,
       timestamptz '2026-03-01 00:00:00Z' + (n / 3) * interval '7 seconds'
from generate_series(1, 300) n;

insert into audit_transactions (id, txid, occurred_at, actor_ref, source, correlation_id, request_id, job_id, action_id, context)
select ('b0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 1000 + n,
       timestamptz '2026-03-01 00:00:00Z' + (n / 2) * interval '3 seconds',
       case when n % 4 = 0 then null when n % 4 = 1 then '{"type": "user", "id": "u1"}'::jsonb
            when n = 2 then '"text"'::jsonb else jsonb_build_object('type', 'admin', 'id', 'a' || n % 7) end,
       case when n % 5 = 0 then 'web' end, case when n % 7 = 0 then 'c' || n % 11 end,
       case when n % 11 = 0 then 'r' || n % 16 end, case when n % 13 = 0 then 'j1' end,
       case when n % 6 = 0 then (select a.id from audit_actions a order by a.id offset n % 300 limit 1) end,
       case when n % 2 = 0 then jsonb_build_object('tenant', 't' || n % 3) end
from generate_series(1, 600) n;

insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, data_before, changed_fields, changed_from, captured_at)
select ('b0000000-0000-4000-8000-' || lpad((1 + n % 600)::text, 12, '0'))::uuid,
       case when n % 20 = 0 then 'billing' else 'public' end,
       case when n % 97 = 0 then 'rare' when n % 3 = 0 then 'orders' else 'posts' end,
       jsonb_build_object('id', (n % 50)::text), o.op,
       case when o.op <> 'delete' then jsonb_build_object('id', n % 50, 'price', n % 9 + 0.50, 'note', case when n % 41 = 0 then 'Fraud!' end) end,
       case when o.op = 'delete' then jsonb_build_object('id', n % 50) end,
       case when o.op = 'update' then array['price'] end, case when o.op = 'update' then jsonb_build_object('price', (n + 1) % 9 + 0.50) end,
       -- Within its transaction, somewhat later.
       (select t.occurred_at from audit_transactions t where t.txid = 1001 + n % 600) + (n / 600) * interval '400 milliseconds'
from generate_series(1, 3000) n
cross join lateral (select (array['insert', 'update', 'update', 'delete', 'update'])[1 + n % 5] as op) o;
