//! A page is read from an index, whatever is asked for, among a million changes.

use sqlx::Executor as _;
use threadline::query::{Filter, From, PageRequest};

use super::Read;

const MILLION: &str = include_str!("million.sql");

const FILTERS: [&str; 26] = [
    "",
    "kind:change",
    "kind:event",
    "table:orders",
    "table:rare",
    "table:public.orders key:1",
    "op:delete",
    "op:truncate",
    "changed:price after:7.50",
    "actor:user:frequent",
    "actor:user:middle",
    "actor:user:rare",
    "actor:user:nobody",
    "table:rare actor:user:frequent",
    "table:orders actor:user:middle",
    "action:auth.login",
    "action:user.suspended",
    "action:user.*",
    "status:error",
    "category:billing",
    "correlation:c7000",
    "correlation:none",
    // An event's.
    "correlation:84365d88-f260-99f4-e077-f7bbc4cb00e8",
    "request:r100003",
    "source:web",
    "text:\"length 777\"",
];

#[tokio::test]
async fn each_page_is_read_from_an_index_and_visits_few_rows() -> anyhow::Result<()> {
    let mut read = Read::after("select 1").await?;
    for statement in MILLION.split(";\n") {
        read.connection.execute(statement).await?;
    }
    let reader = read.reader();
    for text in FILTERS {
        let filter: Filter = text.parse()?;
        let mut request = PageRequest::default();
        // The first page, and a deep one.
        for _ in 0..2 {
            for statement in reader.statements(&filter, &request).await? {
                let plan = statement.explain(&mut read.connection).await?.join("\n");
                assert!(!plan.contains("Seq Scan"), "{text}: {}\n{plan}", statement.text());
                // Sorted is what belongs to one transaction or action, or to one correlation id.
                for sort in plan.lines().filter(|line| line.contains("Sort Method")) {
                    assert!(sort.contains("Memory") && !sort.contains("external"), "{text}: {plan}");
                }
                let visited = buffers(&plan);
                assert!(visited <= BLOCKS_MAX, "{text}: {visited} blocks: {}\n{plan}", statement.text());
            }
            for _ in 0..20 {
                let Some(older) = reader.page(&filter, &request).await?.older else { break };
                request.from = From::OlderThan(older);
            }
        }
    }
    // What another table has written since is not walked, though an index of all changes is in the order that is asked for.
    read.connection.execute(WRITTEN_SINCE).await?;
    read.connection.execute("analyze audit_changes").await?;
    for text in
        ["table:orders", "table:public.orders", "table:orders from:2026-03-02", "table:orders to:2026-05-30"]
    {
        let filter: Filter = text.parse()?;
        let mut request = PageRequest::default();
        for _ in 0..2 {
            let Some(statement) = reader.statements(&filter, &request).await?.into_iter().next() else {
                break;
            };
            let plan = statement.explain(&mut read.connection).await?.join("\n");
            assert!(buffers(&plan) <= BLOCKS_OF_ONE_PAGE, "{text}: {}\n{plan}", statement.text());
            let older = reader.page(&filter, &request).await?.older;
            request.from = From::OlderThan(older.expect("older ones"));
        }
    }
    Ok(())
}

/// A busy table behind the newest changes of all others.
const WRITTEN_SINCE: &str = "
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
    select md5('t1')::uuid, 'public', 'line_items', jsonb_build_object('id', n::text), 'insert',
           timestamptz '2026-06-01 00:00:00Z' + n * interval '1 second' from generate_series(1, 50000) n";

/// Blocks of a page whose rows stand beside each other in their index: a few for each entry.
const BLOCKS_OF_ONE_PAGE: u64 = 1_500;

/// Blocks that a statement visits at most: a few for each row that may be visited.
const BLOCKS_MAX: u64 = 20_000;

/// All blocks that a plan has visited.
fn buffers(plan: &str) -> u64 {
    let line = plan.lines().find(|line| line.contains("Buffers:")).unwrap();
    let count = |what: &str| -> u64 {
        let of = |word: &str| word.strip_prefix(what).and_then(|count| count.parse().ok());
        line.split_whitespace().find_map(of).unwrap_or(0)
    };
    count("hit=") + count("read=")
}
