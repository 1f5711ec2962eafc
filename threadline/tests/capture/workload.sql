SET timezone='UTC';
--
BEGIN; SELECT set_config('threadline.actor_ref','{"type":"user","id":"u-1"}',true);
INSERT INTO users VALUES ('11111111-1111-4111-8111-111111111111','ann@example.test','h1','Ann','{"a":1}',true,'2026-01-01 00:00:00'); COMMIT;
--
BEGIN; SELECT set_config('threadline.actor_ref','{"type":"admin","id":"a-9"}',true);
UPDATE users SET name='Ann B', email='annb@example.test', password_hash='h2', updated_at='2026-01-02 00:00:00' WHERE id='11111111-1111-4111-8111-111111111111'; COMMIT;
--
UPDATE users SET name=name WHERE id='11111111-1111-4111-8111-111111111111';
--
UPDATE users SET password_hash='h3' WHERE id='11111111-1111-4111-8111-111111111111';
--
UPDATE users SET updated_at='2026-01-03 00:00:00' WHERE id='11111111-1111-4111-8111-111111111111';
--
UPDATE users SET email=NULL, settings='null' WHERE id='11111111-1111-4111-8111-111111111111';
--
UPDATE users SET id='22222222-2222-4222-8222-222222222222' WHERE id='11111111-1111-4111-8111-111111111111';
--
BEGIN; SELECT set_config('threadline.actor_ref','{"type":"anonymous"}',true);
INSERT INTO line_items VALUES (1,9007199254740993,'sku "q", comma',2,19.90),(1,2,E'line\nbreak',1,NULL);
INSERT INTO counters VALUES (9007199254740993,0,E'cr\rhere'); COMMIT;
--
BEGIN; INSERT INTO counters VALUES (2,1,'kept'); SAVEPOINT s; INSERT INTO counters VALUES (3,1,'rolled back'); UPDATE counters SET n=5 WHERE id=2; ROLLBACK TO s; INSERT INTO counters VALUES (4,1,'kept too'); COMMIT;
--
BEGIN; INSERT INTO counters VALUES (5,1,'never'); ROLLBACK;
--
BEGIN; SAVEPOINT s; INSERT INTO counters VALUES (6,1,'gone'); ROLLBACK TO s; INSERT INTO counters VALUES (7,1,'first kept'); COMMIT;
--
BEGIN; SELECT set_config('threadline.actor_ref','{"type":"job","id":"j-1"}',true); UPDATE counters SET n=n+1 WHERE id=7; SELECT set_config('threadline.actor_ref','{"type":"system","id":"s-1"}',true); UPDATE counters SET n=n+1 WHERE id=7; COMMIT;
--
BEGIN; SELECT set_config('threadline.actor_ref','',true); UPDATE counters SET note='' WHERE id=7; COMMIT;
--
BEGIN; SELECT set_config('threadline.actor_ref','{not json',true); UPDATE counters SET note='x' WHERE id=7; COMMIT;
--
BEGIN; SELECT set_config('threadline.actor_ref','"text"',true); UPDATE counters SET note='odd actor' WHERE id=7; COMMIT;
--
INSERT INTO counters VALUES (7,100,'up'),(8,1,'new') ON CONFLICT (id) DO UPDATE SET n=excluded.n;
--
INSERT INTO counters VALUES (8,1,'new') ON CONFLICT DO NOTHING;
--
MERGE INTO counters c USING (VALUES (8,50),(9,1)) v(id,n) ON c.id=v.id WHEN MATCHED THEN UPDATE SET n=v.n WHEN NOT MATCHED THEN INSERT VALUES (v.id,v.n,'merged');
--
MERGE INTO counters c USING (VALUES (9)) v(id) ON c.id=v.id WHEN MATCHED THEN DELETE;
--
copy counters from stdin
20	1	copied
21	2	\N
--
UPDATE counters SET n=n*2 WHERE id IN (20,21);
--
DELETE FROM counters WHERE id IN (20,21);
--
INSERT INTO "MixedCase" VALUES ('33333333-3333-4333-8333-333333333333','a','b');
--
UPDATE "MixedCase" SET "Some Col"='ä 漢 😀', "quo""te"=E'\\ '' "' WHERE "Id"='33333333-3333-4333-8333-333333333333';
--
INSERT INTO billing.invoices VALUES (1,0.10,'m'); UPDATE billing.invoices SET total=0.1000, memo=NULL WHERE id=1; UPDATE billing.invoices SET total=12345678901234567890.123456789 WHERE id=1; DELETE FROM billing.invoices WHERE id=1;
--
INSERT INTO events_p VALUES (1,'2026-01-10','a'); UPDATE events_p SET body='b' WHERE id=1; UPDATE events_p SET day='2026-02-10' WHERE id=1; DELETE FROM events_p WHERE id=1;
--
INSERT INTO legacy_log VALUES ('A','2026-01-01 10:00:00.5','n'); UPDATE legacy_log SET note='n2' WHERE code='A'; DELETE FROM legacy_log WHERE code='A';
--
INSERT INTO a_table_name_that_is_longer_than_thirty_six_bytes VALUES (1,'x'); UPDATE a_table_name_that_is_longer_than_thirty_six_bytes SET v='y';
--
INSERT INTO mood_keyed VALUES ('happy','ABC',1); UPDATE mood_keyed SET v=2;
--
INSERT INTO types_all VALUES (1,-5,9223372036854775807,1.2300,1.5,0.1,true,'t','vc','ch','\xdeadbeef','2026-01-31','2026-01-31 10:11:12.123456','2026-01-31 10:11:12+02','1 day 02:03:04','10:11:12','{"z": 1,  "a":2}','{"z":1,"a":2}','{1,NULL,3}','{"a,b",c}','44444444-4444-4444-8444-444444444444','10.0.0.1/24','ok','[1,5)');
--
UPDATE types_all SET num='NaN', f4='Infinity', f8='NaN', ts='infinity', tstz='-infinity', d='infinity', ia='{}', j='{"a":2}', jb='{"a":2,"z":1}', i2=-6, iv='-1 mons', ch='ch ' WHERE id=1;
--
UPDATE types_all SET num=1.23, ba=NULL, j='{"a":2 }' WHERE id=1;
--
TRUNCATE counters;
--
BEGIN; SET LOCAL session_replication_role=replica; INSERT INTO counters VALUES (30,1,'replica'); COMMIT;
--
ALTER TABLE counters ADD COLUMN extra text DEFAULT 'd'; UPDATE counters SET extra='e' WHERE id=30; ALTER TABLE counters DROP COLUMN extra; UPDATE counters SET n=31 WHERE id=30;
--
ALTER TABLE counters RENAME COLUMN note TO remark; UPDATE counters SET remark='renamed' WHERE id=30; ALTER TABLE counters RENAME COLUMN remark TO note;
--
BEGIN; SELECT set_config('threadline.actor_ref','{"type":"service_account","id":"svc"}',true); DELETE FROM users; COMMIT;
--
DO $$ BEGIN INSERT INTO counters VALUES (40,1,'do block'); UPDATE counters SET n=2 WHERE id=40; EXCEPTION WHEN others THEN NULL; END $$;
--
DO $$ BEGIN INSERT INTO counters VALUES (41,1,'outer'); BEGIN INSERT INTO counters VALUES (42,1,'inner'); RAISE EXCEPTION 'x'; EXCEPTION WHEN others THEN NULL; END; END $$;
