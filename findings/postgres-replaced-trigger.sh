#!/bin/sh
# PostgreSQL 15 (Debian's postgresql-15; the same on 14 to 18): `create or replace trigger` over one that was set to
# `enable always` leaves an ordinary trigger, which rows applied by logical replication pass by, without a notice.
. "$(dirname "$0")/lib.sh"
start_postgres
seen=$("$pg_bin/psql" -X -q -At -h 127.0.0.1 -p "$pg_port" -U postgres postgres <<'SQL'
create table t (id int);
create function f() returns trigger language plpgsql as 'begin return null; end';
create trigger f after insert on t for each row execute function f();
alter table t enable always trigger f;
select 'before: ' || tgenabled::text from pg_trigger where tgname = 'f';
create or replace trigger f after insert on t for each row execute function f();
select 'after: ' || tgenabled::text from pg_trigger where tgname = 'f';
SQL
)
expect "$seen" "before: A
after: O"
