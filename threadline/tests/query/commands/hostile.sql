-- Names and values that would move a cursor, colour, hide or forge lines, wherever somebody can write one; Unicode's escapes, so that this
-- file stays readable: ESC, CSI of C1, DEL, line breaks of three kinds, a bidi override, an isolate, a zero-width space, a tag.
create function pg_temp.hostile(what text) returns text language sql as
    $$select what || U&' \001B[2J \009B31m \007F \000A' || 'forged\t' || U&'\0009 \000D \2028 \202E \2066 \200B \+0E0041 "\\ end'$$;

insert into audit_actions (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at)
select 'a0000000-0000-4000-8000-000000000001', pg_temp.hostile('name'), jsonb_build_object('type', 'user', 'id', pg_temp.hostile('id')),
       'error', pg_temp.hostile('verb'), pg_temp.hostile('category'), pg_temp.hostile('reason'), pg_temp.hostile('comment'),
       pg_temp.hostile('correlation'), pg_temp.hostile('request'), pg_temp.hostile('job'), '2026-05-15 12:00:00Z';

insert into audit_transactions (id, txid, occurred_at, actor_ref, source, correlation_id, request_id, job_id, action_id, meta, context)
select 'b0000000-0000-4000-8000-000000000001', 101, '2026-05-15 12:00:00Z', jsonb_build_object('type', 'user', 'id', pg_temp.hostile('id')),
       pg_temp.hostile('source'), pg_temp.hostile('correlation'), pg_temp.hostile('request'), pg_temp.hostile('job'),
       'a0000000-0000-4000-8000-000000000001', jsonb_build_object(pg_temp.hostile('meta'), pg_temp.hostile('value')),
       jsonb_build_object(pg_temp.hostile('context'), pg_temp.hostile('value'));

insert into audit_changes (id, transaction_id, table_schema, table_name, partition, table_pk, key_before, op, data_after, data_before, changed_fields, changed_from, json_nulls, captured_at, position)
select 'c0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001', pg_temp.hostile('schema'), pg_temp.hostile('table'), pg_temp.hostile('partition'),
       jsonb_build_object(pg_temp.hostile('key'), pg_temp.hostile('value')), jsonb_build_object(pg_temp.hostile('key'), pg_temp.hostile('before')), 'update',
       jsonb_build_object(pg_temp.hostile('key'), pg_temp.hostile('value'), pg_temp.hostile('column'), null), null,
       array[pg_temp.hostile('column'), pg_temp.hostile('key')], jsonb_build_object(pg_temp.hostile('column'), pg_temp.hostile('value')), array[pg_temp.hostile('column')],
       '2026-05-15 12:00:00Z', 1;
