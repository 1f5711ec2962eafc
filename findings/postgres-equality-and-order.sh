#!/bin/sh
# PostgreSQL 15 (Debian's postgresql-15): the newest rows of one of two names, asked for with an equality and a limit, are
# sought in the index (at, id), and all rows of the other name that are newer are read and thrown away; the index (name, at, id)
# begins with them. It costs the second one more, since names are in no order of rows, and times are. With the name between itself
# and itself, and first in the order, it is taken.
. "$(dirname "$0")/lib.sh"
start_postgres
ask() {
    "$pg_bin/psql" -X -q -At -h 127.0.0.1 -p "$pg_port" -U postgres postgres "$@"
}
ask <<'SQL'
create table entries (id uuid default gen_random_uuid(), name text, at timestamptz, more text default repeat('x', 300));
insert into entries (name, at)
select case when n > 567000 or n % 3 > 0 then 'busy' else 'quiet' end, timestamptz '2026-01-01' + n * interval '1 second'
from generate_series(1, 600000) n;
create index on entries (at, id);
create index on entries (name, at, id);
vacuum analyze entries;
SQL
thrown_away() {
    plan=$(ask -c "explain (analyze, costs off, timing off) select * from entries where $1 order by $2 limit 50")
    removed=$(printf '%s\n' "$plan" | sed -n 's/.*Rows Removed by Filter: //p')
    echo "$3: $(printf '%s\n' "$plan" | sed -n 's/.*using \([a-z_]*\).*/\1/p'), ${removed:-0} rows thrown away"
}
expect "$(thrown_away "name = 'quiet'" "at desc, id desc" equality)" \
    "equality: entries_at_id_idx, 33098 rows thrown away"
expect "$(thrown_away "name >= 'quiet' and name <= 'quiet'" "name desc, at desc, id desc" between)" \
    "between: entries_name_at_id_idx, 0 rows thrown away"
