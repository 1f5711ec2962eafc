//! Rows are found through indexes, among 200,000 changes.

use std::time::{Duration, Instant};

use threadline::query::{
    Scope,
    row::{RowPage, TablePage},
};

use super::{Read, row, table};

const MANY: &str = "
    insert into audit_transactions (id, txid, occurred_at, actor_ref)
    select ('aaaaaaaa-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, n, timestamptz '2026-01-01' + n * interval '1 second',
           '{\"type\": \"user\", \"id\": \"u1\"}'
    from generate_series(1, 100000) n;
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, key_before, op, data_after, changed_fields, captured_at)
    select ('aaaaaaaa-0000-4000-8000-' || lpad((1 + n / 2)::text, 12, '0'))::uuid, case when n % 10 = 0 then 'billing' else 'public' end,
           case when n % 3 = 0 then 'orders' else 'posts' end,
           -- One row has very many changes, others five or so; a few keys were changed.
           jsonb_build_object('id', case when n % 7 = 0 then 1 else n % 25000 end ::text),
           case when n % 1000 = 1 then jsonb_build_object('id', (n % 25000 + 100000)::text) end,
           'update', jsonb_build_object('id', n % 25000, 'n', n), '{n}', timestamptz '2026-01-01' + n * interval '500 milliseconds'
    from generate_series(1, 199998) n;
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
    select transaction_id, 'public', 'posts', '{}', 'truncate', timestamptz '2025-12-31' from audit_changes limit 20;
    analyze audit_transactions; analyze audit_changes";

/// Blocks that a statement may visit.
const BLOCKS_MAX: [(&str, u64); 5] = [
    ("keys of the row", 60),
    ("history", 2_500),
    ("newest changes", 100),
    ("truncates", 200),
    ("keys of the table", 3_500),
];

#[tokio::test]
async fn what_is_asked_about_a_row_is_read_from_indexes() -> anyhow::Result<()> {
    let mut read = Read::after(MANY).await?;
    let reader = read.reader();
    let tenant = read.timeline.reader(Scope::of_context("tenant", "t1"));
    for (key, at) in [("1", "infinity"), ("15", "2026-01-01T12:00:00Z"), ("absent", "2026-01-01T12:00:00Z")] {
        let row = row(&reader, "public.posts", key).await?;
        for (name, statement) in reader.row_statements(&row, &at.parse()?) {
            let plan = statement.explain(&mut read.connection).await?.join("\n");
            assert!(!plan.contains("Seq Scan"), "{name}: {}\n{plan}", statement.text());
            for sort in plan.lines().filter(|line| line.contains("Sort Method")) {
                assert!(sort.contains("Memory"), "{name}: {plan}");
            }
            let visited = buffers(&plan);
            let most = BLOCKS_MAX.iter().find(|(of, _)| *of == name).map(|(_, blocks)| *blocks).unwrap();
            assert!(visited <= most, "{name} of {key}: {visited} blocks: {}\n{plan}", statement.text());
        }
        // Whoever sees a part, may have to pass by what is hidden, but not by other rows.
        for (name, statement) in tenant.row_statements(&row, &at.parse()?) {
            let plan = statement.explain(&mut read.connection).await?.join("\n");
            assert!(!plan.contains("Seq Scan on audit_changes"), "{name}: {}\n{plan}", statement.text());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_page_of_a_table_and_of_a_busy_row_come_at_once() -> anyhow::Result<()> {
    let read = Read::after(MANY).await?;
    let reader = read.reader();
    let busy = row(&reader, "public.posts", "1").await?;
    let begin = Instant::now();
    let history = reader.row_history(&busy, &RowPage::default()).await?;
    assert!(history.has_more && history.changes.len() == 200);
    let page = TablePage { size: 1_000, ..TablePage::default() };
    let all = reader.table_as_of(&table("public.posts"), &"2026-01-01T12:00:00Z".parse()?, &page).await?;
    assert_eq!(all.rows.len(), 1_000);
    assert!(all.next.is_some());
    // It is a matter of tenths; with a scan of everything for each key it would be minutes.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    Ok(())
}

/// Blocks that were read, from wherever.
fn buffers(plan: &str) -> u64 {
    let line = plan.lines().find(|line| line.trim_start().starts_with("Buffers:")).unwrap_or_default();
    let number = |name: &str| -> u64 {
        line.split_once(name)
            .and_then(|(_, rest)| rest.split([' ', ',']).next()?.parse().ok())
            .unwrap_or_default()
    };
    number("hit=") + number("read=")
}
