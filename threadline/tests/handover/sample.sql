insert into audit_actions (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at) values
  ('a0000000-0000-4000-8000-000000000001', 'order.paid', '{"type": "user", "id": "u1", "age": 41.50}', 'ok', 'pay', 'billing', 'because', E'a "comment",\r\nof two lines', 'c-1', 'r-1', 'j-1',
   '2026-05-15 12:00:00Z'),
  ('e0000000-0000-4000-8000-000000000002', 'auth.login', '{"type": "anonymous"}', 'error', null, null, '=1+1', null, 'e0000000-0000-4000-8000-000000000002', null, null, '2026-05-15 12:00:02Z');
insert into audit_transactions (id, txid, occurred_at, actor_ref, source, correlation_id, request_id, job_id, meta, context, action_id) values
  ('b0000000-0000-4000-8000-000000000001', 7, '2026-05-15 12:00:00.000001Z', '{"type": "user", "id": "u1"}', 'web', 'c-1', 'r-1', 'j-1', '{"b": 1.50, "a": null}', '{"tenant": "t1"}',
   'a0000000-0000-4000-8000-000000000001'),
  ('b0000000-0000-4000-8000-000000000002', 8, '2026-05-15 12:00:03Z', null, null, null, null, null, null, null, null);
insert into audit_changes (id, transaction_id, table_schema, table_name, partition, table_pk, key_before, op, data_after, data_before, changed_fields, changed_from, json_nulls, captured_at, position) values
  ('c0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001', 'public', 'orders', 'public.orders_1', '{"id": "7"}', null, 'insert',
   '{"total": 19.90, "id": 7, "note": "say \"hi\",\n\u001f ü \u2028", "tags": [1.0, {"b": 1, "a": 2}], "big": 12345678901234567890.10}', null, null, null, array['meta'], '2026-05-15 12:00:01Z', 1),
  ('c0000000-0000-4000-8000-000000000002', 'b0000000-0000-4000-8000-000000000001', 'public', 'orders', null, '{"id": "8"}', '{"id": "7"}', 'update',
   '{"id": 8, "total": 1000000.0}', null, array['id', 'total'], '{"total": 19.90, "id": 7}', null, '2026-05-15 12:00:01.5Z', 2),
  ('c0000000-0000-4000-8000-000000000003', 'b0000000-0000-4000-8000-000000000002', 'public', '=cmd()', null, '{}', null, 'delete', null, '{"id": 8}', null, null, null, '2026-05-15 12:00:03Z', 3),
  ('c0000000-0000-4000-8000-000000000004', 'b0000000-0000-4000-8000-000000000002', '-5', '@sum', null, '{}', null, 'truncate', null, null, null, null, null, 'infinity', 4);
