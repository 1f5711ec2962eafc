//! Each batch follows an index and visits few blocks, among many rows that are kept.

use std::time::Duration;

use sandbox::wait;
use sqlx::{Connection as _, Executor as _, PgConnection};
use threadline::retention::{Keep, Policy};

use super::{counts, host, options, table, ten_days};

/// 200,000 changes in 50,000 transactions over 50 days; every second one of a table that is large, most others of another one, few of a
/// third; and 50,000 actions.
const MANY: [&str; 6] = [
    "insert into audit_transactions (id, txid, occurred_at)
     select md5('t' || n)::uuid, n, now() - interval '50 days' + n * interval '86 seconds' from generate_series(1, 50000) n",
    "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
     select md5('t' || 1 + n / 4)::uuid, 'public', case when n % 2 = 0 then 'orders' when n % 1000 = 1 then 'rare' else 'posts' end,
            jsonb_build_object('id', n::text), 'insert', jsonb_build_object('id', n, 'note', repeat('x', 50)),
            now() - interval '50 days' + (1 + n / 4) * interval '86 seconds'
     from generate_series(0, 199999) n",
    "insert into audit_actions (id, name, actor_ref, status, inserted_at)
     select md5('a' || n)::uuid, 'a.b', '{}', 'ok', now() - interval '50 days' + n * interval '86 seconds' from generate_series(1, 50000) n",
    "vacuum analyze audit_changes",
    "vacuum analyze audit_transactions",
    "vacuum analyze audit_actions",
];

const INSERTED: i64 = 300_000;

/// Blocks that a batch of 500 rows may visit: for each row its own, those of the indexes that lead to it, and of its transaction.
const BLOCKS_MAX: i64 = 10_000;

/// Entries of indexes of changes that may be read for each change that goes: to find it, to lock it, to delete it, and to see that its
/// transaction has no other.
const ENTRIES_MAX: i64 = 6;

/// What the server has counted of the timeline's tables.
#[derive(Debug, Clone, Copy, PartialEq, sqlx::FromRow)]
struct Counted {
    scans: i64,
    inserted: i64,
    deleted: i64,
    blocks: i64,
    entries: i64,
}

/// Sessions report at their end, at the latest; before PostgreSQL 15 what they report arrives a little later.
async fn counted(connection: &mut PgConnection, inserted: i64, deleted: i64) -> anyhow::Result<Counted> {
    let counted = "select sum(t.seq_scan)::bigint as scans, sum(t.n_tup_ins)::bigint as inserted,
            sum(t.n_tup_del)::bigint as deleted,
            sum(i.heap_blks_read + i.heap_blks_hit + i.idx_blks_read + i.idx_blks_hit)::bigint as blocks,
            (select sum(x.idx_tup_read)::bigint from pg_stat_user_indexes x where x.relname = 'audit_changes') as entries
        from pg_stat_user_tables t join pg_statio_user_tables i using (relid)
        where t.relname in ('audit_changes', 'audit_transactions', 'audit_actions')";
    wait::until_some("the server to have counted", Duration::from_secs(60), async || {
        let found: Counted = sqlx::query_as(counted).fetch_one(&mut *connection).await?;
        Ok((found.inserted >= inserted && found.deleted >= deleted).then_some(found))
    })
    .await
}

#[tokio::test]
async fn batches_read_no_table_as_a_whole_and_visit_few_blocks() -> anyhow::Result<()> {
    for policy in [
        ten_days().actions(Keep::days(10)?),
        ten_days().table(table("posts"), Keep::Forever),
        Policy::new(Keep::days(40)?)?.table(table("rare"), Keep::days(5)?),
    ] {
        let mut host = host().await?;
        for statement in MANY {
            host.connection.execute(statement).await?;
        }
        host.connection.close().await?;
        let mut watcher = host.database.connect().await?;
        let before = counted(&mut watcher, INSERTED, 0).await?;
        let hasty = options(|options| {
            (options.batch_size, options.busy_percent, options.sleep) = (500, 100, Duration::ZERO);
        });
        let purged = host.timeline.purge(&policy, &hasty).await?;
        host.timeline.pool().close().await;
        let (changes, transactions, actions, batches) = counts(&purged);
        assert!(batches > 50, "{purged:?}");
        let after = counted(&mut watcher, INSERTED, i64::try_from(changes + transactions + actions)?).await?;
        assert_eq!(after.scans, before.scans, "a table was read as a whole: {purged:?}");
        let blocks = (after.blocks - before.blocks) / i64::from(batches);
        assert!(blocks <= BLOCKS_MAX, "{blocks} blocks in each batch: {purged:?}");
        let entries = (after.entries - before.entries) / i64::try_from(changes)?;
        assert!(entries <= ENTRIES_MAX, "{entries} entries for each change: {purged:?}");
    }
    Ok(())
}
