-- A shop as its people would find it in the timeline: customers, orders and tickets, actions that failed, a column that is masked and one
-- that is hashed, rows that went. Its times end a minute ago; its ids are md5 of a word and a number, so that tests know them.
create table customers (id bigint primary key, name text not null, email text, tax_number text, city text, notes jsonb);
create table orders (id bigint primary key, customer_id bigint not null references customers, status text not null, total numeric(12, 2) not null, shipping_address text);
create table order_lines (order_id bigint references orders, line int, sku text not null, quantity int not null, price numeric(12, 2) not null, primary key (order_id, line));
create table tickets (id uuid primary key, customer_id bigint not null references customers, subject text not null, state text not null, assignee text);

create function pg_temp.actor(name text) returns jsonb language sql immutable as $$
    select case name when 'anonymous' then '{"type": "anonymous"}' else jsonb_build_object('type', split_part(name, ':', 1), 'id', split_part(name, ':', 2)) end $$;

-- What was meant: an action, and the transaction it was done in, where there was one.
create function pg_temp.act(n int, ago interval, name text, actor text, status text, verb text, category text, reason text, note text, correlation text, request text, job text)
returns void language sql as $$
    insert into audit_actions (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at)
    values (md5('action' || n)::uuid, name, pg_temp.actor(actor), status, verb, category, reason, note, correlation, request, job, now() - interval '1 minute' - ago) $$;
create function pg_temp.transaction(n int, ago interval, actor text, action int, source text, correlation text, request text, job text)
returns void language sql as $$
    insert into audit_transactions (id, txid, occurred_at, actor_ref, source, correlation_id, request_id, job_id, meta, context, action_id)
    values (md5('transaction' || n)::uuid, 700000 + n, now() - interval '1 minute' - ago, pg_temp.actor(actor), source, correlation, request, job,
            case source when 'web' then '{"user_agent": "Firefox/141.0", "ip": "198.51.100.23"}'::jsonb end, '{"tenant": "north"}', case when action is not null then md5('action' || action)::uuid end) $$;
create function pg_temp.change(n int, milliseconds int, name text, key jsonb, op text, after jsonb, before jsonb default null)
returns void language sql as $$
    insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, data_after, data_before, changed_fields, changed_from, captured_at)
    select md5(concat('change', n, ' ', milliseconds))::uuid, t.id, 'public', name, key, op, case when op <> 'delete' then after end, case when op = 'delete' then before end,
           case when op = 'update' then array(select jsonb_object_keys(before) order by 1) end, case when op = 'update' then before end,
           t.occurred_at + milliseconds * interval '1 millisecond'
    from audit_transactions t where t.txid = 700000 + n $$;

-- The days before: many orders that were placed, packed and shipped.
select pg_temp.transaction(n, interval '15 hours' + n * interval '53 minutes', case when n % 3 = 0 then 'system:warehouse' when n % 7 = 0 then 'job:imports' else 'user:' || (array['mara', 'jonas', 'ines'])[1 + n % 3] end,
    null, case when n % 3 = 0 then 'warehouse' else 'web' end, null, 'req-' || left(md5(n::text), 8), null)
from generate_series(100, 260) n;
select pg_temp.change(n, 4, 'orders', jsonb_build_object('id', (4000 + n)::text), 'update',
    jsonb_build_object('id', 4000 + n, 'customer_id', 300 + n % 40, 'status', (array['packed', 'shipped', 'delivered'])[1 + n % 3], 'total', (n * 7919 % 40000) / 100.0, 'shipping_address', 'Hafenstraße ' || n % 90 || ', Bremen'),
    jsonb_build_object('status', (array['paid', 'packed', 'shipped'])[1 + n % 3]))
from generate_series(100, 260) n;
select pg_temp.act(n, interval '16 hours' + n * interval '3 hours', 'order.shipped', 'system:warehouse', 'ok', 'ship', 'fulfilment', null, null, null, null, 'pack-' || n) from generate_series(20, 50) n;

-- Yesterday: a customer asks to be forgotten, and a refund fails twice.
select pg_temp.act(1, interval '26 hours', 'customer.erased', 'admin:petra', 'ok', 'erase', 'privacy', 'The customer asked for it', 'Ticket of 12 May; confirmed by phone.', 'erase-318', 'req-0f31c2d8', null);
select pg_temp.transaction(1, interval '26 hours', 'admin:petra', 1, 'back office', 'erase-318', 'req-0f31c2d8', null);
select pg_temp.change(1, 2, 'tickets', '{"id": "8f0e8a52-5c1c-4a3e-9a51-0d5d2f1f7a10"}', 'delete', null, '{"id": "8f0e8a52-5c1c-4a3e-9a51-0d5d2f1f7a10", "customer_id": 318, "subject": "Please delete my account", "state": "open", "assignee": "petra"}');
select pg_temp.change(1, 5, 'order_lines', '{"order_id": "4077", "line": "1"}', 'delete', null, '{"order_id": 4077, "line": 1, "sku": "LAMP-OAK-02", "quantity": 1, "price": 89.00}');
select pg_temp.change(1, 6, 'orders', '{"id": "4077"}', 'delete', null, '{"id": 4077, "customer_id": 318, "status": "delivered", "total": 89.00, "shipping_address": null}');
select pg_temp.change(1, 9, 'customers', '{"id": "318"}', 'delete', null, '{"id": 318, "name": "Kerstin Albrecht", "email": "[REDACTED]", "tax_number": "hmac:default:5d41402abc4b2a76b9719d911017c592", "city": "Bremen", "notes": null}');
select pg_temp.act(2, interval '22 hours 4 minutes', 'order.refunded', 'user:jonas', 'error', 'refund', 'billing', 'The payment provider did not answer', null, 'refund-4242', 'req-51aa90be', null);
select pg_temp.act(3, interval '22 hours', 'order.refunded', 'user:jonas', 'error', 'refund', 'billing', 'The payment provider did not answer', null, 'refund-4242', 'req-6b07c1d4', null);

-- Today.
select pg_temp.act(4, interval '5 hours', 'order.refunded', 'user:jonas', 'ok', 'refund', 'billing', 'Lamp arrived broken', 'Third attempt; the first two timed out.', 'refund-4242', 'req-77d20e91', null);
select pg_temp.transaction(4, interval '5 hours', 'user:jonas', 4, 'web', 'refund-4242', 'req-77d20e91', null);
select pg_temp.change(4, 3, 'orders', '{"id": "4242"}', 'update',
    '{"id": 4242, "customer_id": 307, "status": "refunded", "total": 0.00, "shipping_address": "Am Deich 4, Bremen"}', '{"status": "delivered", "total": 148.50}');
select pg_temp.change(4, 5, 'tickets', '{"id": "2b1c6d0e-7f57-4a89-8f4e-6a1f0a9b3c21"}', 'update',
    '{"id": "2b1c6d0e-7f57-4a89-8f4e-6a1f0a9b3c21", "customer_id": 307, "subject": "The lamp arrived broken", "state": "solved", "assignee": "jonas"}', '{"state": "waiting"}');
select pg_temp.act(5, interval '3 hours 12 minutes', 'auth.login', 'anonymous', 'error', 'login', 'access', 'Wrong password', null, null, 'req-9c31f077', null);
select pg_temp.transaction(6, interval '2 hours 40 minutes', 'job:imports', null, 'imports', 'import-0521', null, 'import-0521');
select pg_temp.change(6, 10 * n, 'order_lines', jsonb_build_object('order_id', '4301', 'line', n::text), 'insert',
    jsonb_build_object('order_id', 4301, 'line', n, 'sku', (array['CHAIR-ASH-01', 'TABLE-OAK-04', 'LAMP-OAK-02', 'RUG-WOOL-11', 'SHELF-PINE-07'])[1 + n % 5], 'quantity', 1 + n % 3, 'price', 40 + n * 7.25))
from generate_series(1, 5) n;
select pg_temp.act(7, interval '95 minutes', 'customer.updated', 'user:mara', 'ok', 'update', 'customers', null, null, 'cart-9d1', 'req-b3e70a55', null);
select pg_temp.transaction(7, interval '95 minutes', 'user:mara', 7, 'web', 'cart-9d1', 'req-b3e70a55', null);
select pg_temp.change(7, 2, 'customers', '{"id": "307"}', 'update',
    '{"id": 307, "name": "Amélie Dubois-Nguyen", "email": "[REDACTED]", "tax_number": "hmac:default:7d793037a0760186574b0282f2f435e7", "city": "Oldenburg", "notes": {"newsletter": true, "vip": false, "tags": ["returns", "gift wrap"]}}',
    '{"email": "[REDACTED]", "tax_number": "hmac:default:9b74c9897bac770ffc029102a200c5de", "city": "Bremen", "notes": {"newsletter": false, "vip": false, "tags": ["returns"]}}');
select pg_temp.act(8, interval '34 minutes', 'order.placed', 'user:mara', 'ok', 'place', 'sales', null, null, 'cart-9d1', 'req-c80fd2e6', null);
select pg_temp.transaction(8, interval '34 minutes', 'user:mara', 8, 'web', 'cart-9d1', 'req-c80fd2e6', null);
select pg_temp.change(8, 2, 'orders', '{"id": "4310"}', 'insert', '{"id": 4310, "customer_id": 307, "status": "paid", "total": 212.75, "shipping_address": "Nadorster Straße 12, Oldenburg"}');
select pg_temp.change(8, 4, 'order_lines', '{"order_id": "4310", "line": "1"}', 'insert', '{"order_id": 4310, "line": 1, "sku": "TABLE-OAK-04", "quantity": 1, "price": 189.00}');
select pg_temp.change(8, 6, 'order_lines', '{"order_id": "4310", "line": "2"}', 'insert', '{"order_id": 4310, "line": 2, "sku": "NAPKIN-LINEN", "quantity": 5, "price": 4.75}');
select pg_temp.transaction(9, interval '12 minutes', 'system:warehouse', null, 'warehouse', 'cart-9d1', null, 'pack-4310');
select pg_temp.change(9, 3, 'orders', '{"id": "4310"}', 'update',
    '{"id": 4310, "customer_id": 307, "status": "packed", "total": 212.75, "shipping_address": "Nadorster Straße 12, Oldenburg"}', '{"status": "paid"}');
select pg_temp.act(10, interval '4 minutes', 'export.downloaded', 'admin:petra', 'ok', 'download', 'exports', 'Quarterly audit', null, null, 'req-e4d5a9c0', null);
select pg_temp.transaction(11, interval '40 seconds', 'user:ines', null, 'web', null, 'req-f1b2c3d4', null);
select pg_temp.change(11, 2, 'tickets', '{"id": "5d0a7c1e-94e1-4a43-b6a5-2e6f8f2f9b77"}', 'insert',
    '{"id": "5d0a7c1e-94e1-4a43-b6a5-2e6f8f2f9b77", "customer_id": 307, "subject": "Can the table come on Saturday?", "state": "open", "assignee": null}');
