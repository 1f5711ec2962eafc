-- A customer with a history: masked, hashed and binary columns, a document, a long text, a key that changes, an order that belongs to it, and
-- marks of what is not known.
create table customers (id int primary key, email text);
create table orders (id int primary key, customer_id int references customers);

insert into threadline_capture_policies (table_schema, table_name, table_oid, level, policy, generator)
values ('public', 'customers', 'customers'::regclass, 'row',
        '{"exclude": ["password_hash"], "mask": ["email"], "mask_placeholder": "***", "hash": ["ssn"]}', 1);

insert into audit_actions (id, name, actor_ref, status, reason, comment, inserted_at) values
('a0000000-0000-4000-8000-000000000001', 'customer.renamed', '{"type": "admin", "id": "a1"}', 'ok', 'asked on the phone', null, '2026-03-01 11:00:00Z'),
('a0000000-0000-4000-8000-000000000002', 'card.charged', '{"type": "admin", "id": "a1"}', 'error', 'declined', null, now() - interval '1 hour'),
('a0000000-0000-4000-8000-000000000003', 'threadline.capture.disabled', '{"type": "admin", "id": "a1"}', 'ok', 'bulk load', '{"table":"public.customers","table_oid":null,"triggers":[]}', '2026-03-01 09:00:00Z'),
('a0000000-0000-4000-8000-000000000004', 'threadline.capture.enabled', '{"type": "admin", "id": "a1"}', 'ok', 'loaded', '{"table":"public.customers","table_oid":null,"triggers":[]}', '2026-03-01 09:30:00Z');

insert into audit_transactions (id, txid, occurred_at, actor_ref, correlation_id, request_id, source, action_id, context)
select ('b0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 100 + n, timestamptz '2026-03-01 09:00:00Z' + n * interval '1 hour',
       jsonb_build_object('type', 'admin', 'id', 'a1'), 'c-' || n, 'r-' || n, 'web',
       case when n = 2 then 'a0000000-0000-4000-8000-000000000001'::uuid end, '{"tenant": "t1"}'
from generate_series(1, 6) n;

with image as (
    select jsonb_build_object('id', 7, 'email', '***', 'ssn', 'hmac:default:' || repeat('ab', 32), 'name', 'Ada', 'photo', '\x68692121',
                              'settings', '{"theme": "dark", "langs": ["en", "de"], "limit": 10.50}'::jsonb,
                              'bio', repeat('She works on engines. ', 20) || 'She likes tea.',
                              'huge', jsonb_build_object('threadline.too_large', jsonb_build_object('bytes', 200000, 'sha256', repeat('cd', 32)))) as one)
insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, key_before, op, data_after, data_before, changed_fields, changed_from, captured_at, erased)
select ('c0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, ('b0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'public', 'customers',
       jsonb_build_object('id', case when n < 3 then '7' else '8' end), case when n = 3 then '{"id": "7"}'::jsonb end,
       (array['insert', 'update', 'update', 'delete'])[n],
       case n when 1 then one
              when 2 then one || '{"name": "Ada L.", "settings": {"theme": "light", "langs": ["en"], "limit": 10.50}}'
                              || jsonb_build_object('bio', replace(one ->> 'bio', 'tea', 'coffee'))
              when 3 then one || '{"id": 8, "name": "Ada L."}' end,
       case when n = 4 then one || '{"id": 8, "name": "[ERASED]"}' end,
       case n when 2 then array['bio', 'name', 'settings'] when 3 then array['id'] end,
       case n when 2 then jsonb_build_object('name', 'Ada', 'settings', one -> 'settings', 'bio', one -> 'bio') when 3 then '{"id": 7}' end,
       timestamptz '2026-03-01 09:00:00Z' + n * interval '1 hour',
       case when n = 4 then '{"run": "b0000000-0000-4000-8000-000000000009", "columns": {"data_before": {"sha256": "00", "keys": ["name"]}}}'::jsonb end
from image, generate_series(1, 4) n;

insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
values ('b0000000-0000-4000-8000-000000000001', 'public', 'orders', '{"id": "1"}', 'insert', '{"id": 1, "customer_id": 7}', '2026-03-01 10:30:00Z');

-- A transaction of many changes in two tables.
insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
select 'b0000000-0000-4000-8000-000000000005', 'public', case when n > 120 then 'notes' else 'posts' end, jsonb_build_object('id', n::text),
       case when n % 4 = 0 then 'delete' else 'insert' end, case when n % 4 > 0 then jsonb_build_object('id', n, 'title', 'post ' || n) end,
       timestamptz '2026-03-01 14:00:00Z' + n * interval '1 millisecond'
from generate_series(1, 123) n;

insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
values ('b0000000-0000-4000-8000-000000000006', 'public', 'customers', '{}', 'truncate', '2026-03-01 15:00:00Z');

insert into threadline_retention_runs (id, status, deleted_count, started_at, completed_at)
values ('d0000000-0000-4000-8000-000000000001', 'completed', 5, '2026-02-01Z', '2026-02-01Z');
