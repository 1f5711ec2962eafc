-- A small timeline, the same at every time: a row that comes, changes and goes, and who did it.
insert into audit_actions (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, inserted_at) values
    ('a0000000-0000-4000-8000-000000000001', 'post.published', '{"type": "user", "id": "u1"}', 'ok', 'publish', 'post', null, null, 'c-1', 'r-1', '2026-05-15 12:00:01.5Z'),
    ('a0000000-0000-4000-8000-000000000002', 'post.removed', '{"type": "admin", "id": "a1"}', 'error', null, 'post', 'not allowed', 'tried twice', null, null, '2026-05-15 13:00:00Z'),
    ('e0000000-0000-4000-8000-000000000003', 'auth.login', '{"type": "anonymous"}', 'ok', null, null, null, null, 'e0000000-0000-4000-8000-000000000003', null, '2026-05-15 13:30:00Z');

insert into audit_transactions (id, txid, occurred_at, actor_ref, source, correlation_id, request_id, job_id, action_id, meta, context) values
    ('b0000000-0000-4000-8000-000000000001', 101, '2026-05-15 12:00:00Z', '{"type": "user", "id": "u1"}', 'web', 'c-1', 'r-1', null, 'a0000000-0000-4000-8000-000000000001', null, '{"tenant": "t1"}'),
    ('b0000000-0000-4000-8000-000000000002', 102, '2026-05-15 12:30:00Z', '{"type": "job", "id": "reprice"}', 'worker', null, null, 'j-1', null, '{"rows": 2}', null),
    ('b0000000-0000-4000-8000-000000000003', 103, '2026-05-15 14:00:00Z', null, null, null, null, null, null, null, null);

insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, key_before, op, data_after, data_before, changed_fields, changed_from, captured_at, position) values
    ('c0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001', 'public', 'posts', '{"id": "7"}', null, 'insert', '{"id": 7, "note": null, "price": 19.90, "title": "Hello"}', null, null, null, '2026-05-15 12:00:00.25Z', 1),
    ('c0000000-0000-4000-8000-000000000002', 'b0000000-0000-4000-8000-000000000001', 'billing', 'lines', '{"line_no": "1", "tenant_id": "4"}', null, 'insert', '{"post": 7, "line_no": 1, "tenant_id": 4}', null, null, null, '2026-05-15 12:00:00.5Z', 2),
    ('c0000000-0000-4000-8000-000000000003', 'b0000000-0000-4000-8000-000000000002', 'public', 'posts', '{"id": "7"}', null, 'update', '{"id": 7, "note": "two words", "price": 123456789012345678901234567890.50, "title": "Hello"}', null, '{note,price}', '{"note": null, "price": 19.90}', '2026-05-15 12:30:00.1Z', 3),
    ('c0000000-0000-4000-8000-000000000004', 'b0000000-0000-4000-8000-000000000002', 'public', 'posts', '{"id": "8"}', '{"id": "7"}', 'update', '{"id": 8, "note": "two words", "price": 123456789012345678901234567890.50, "title": "Hello"}', null, '{id}', '{"id": 7}', '2026-05-15 12:30:00.2Z', 4),
    ('c0000000-0000-4000-8000-000000000005', 'b0000000-0000-4000-8000-000000000003', 'public', 'posts', '{"id": "8"}', null, 'delete', null, '{"id": 8, "note": "two words", "price": 123456789012345678901234567890.50, "title": "Hello"}', null, null, '2026-05-15 14:00:00.1Z', 5);
