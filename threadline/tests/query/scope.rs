//! Two tenants with the same tables, keys, actors and ids: nobody sees anything of the other one, whatever is asked.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Executor as _};
use threadline::{
    ActorRef, ActorType,
    query::{Count, Cursor, Filter, From, PageRequest, Reader, Scope, Window},
};
use uuid::Uuid;

use super::{
    Read,
    tenants::{FILTERS, TENANTS, scopes},
};

pub(crate) fn others(answer: &impl serde::Serialize) -> bool {
    serde_json::to_string(answer).unwrap().contains("OTHERS")
}

async fn sees_nothing_of_others(
    name: &str,
    reader: &Reader,
    transactions: &[(Uuid, bool)],
) -> anyhow::Result<usize> {
    let mut seen = 0;
    for text in FILTERS {
        let filter: Filter = text.parse()?;
        for by_transaction in [false, true] {
            let mut request = PageRequest { size: 7, visited: 20, by_transaction, ..PageRequest::default() };
            let mut entries = 0;
            loop {
                let page = reader.page(&filter, &request).await?;
                assert!(!others(&page), "{name}: {text}: {page:?}");
                entries += page.entries.len();
                let Some(older) = page.older else { break };
                request.from = From::OlderThan(older);
            }
            seen += entries;
            let count = reader.count(&filter).await?;
            if !by_transaction {
                assert_eq!(count, Count::Exactly(u32::try_from(entries)?), "{name}: {text}");
            }
            assert!(entries == 0 || !text.contains("OTHERS"), "{name}: {text} finds {entries}");
        }
    }
    for (id, is_own) in transactions {
        let context = reader.transaction(*id, 50, None).await?;
        assert!(!others(&context), "{name}: {context:?}");
        assert!(context.is_none() || *is_own, "{name}: a transaction of others is there");
    }
    let actor = ActorRef::new(ActorType::User, Some("u1"))?;
    let history = reader.actor_history(&actor, Window::Everything, &PageRequest::default()).await?;
    assert!(!others(&history), "{name}: {history:?}");
    Ok(seen)
}

#[tokio::test]
async fn nobody_sees_anything_of_another_tenant_on_any_surface() -> anyhow::Result<()> {
    let mut read = Read::after(TENANTS).await?;
    let transactions: Vec<(Uuid, bool)> =
        sqlx::query_as("select id, source = 'MINE' from audit_transactions")
            .fetch_all(&mut read.connection)
            .await?;
    for (name, scope) in scopes() {
        let reader = read.timeline.reader(scope);
        let seen = sees_nothing_of_others(name, &reader, &transactions).await?;
        let is_blind = ["nothing", "another tenant", "a table that there is none of"].contains(&name);
        assert_eq!(seen == 0, is_blind, "{name}: {seen}");
    }
    Ok(())
}

/// Every row arrives while somebody follows.
#[tokio::test]
async fn nobody_who_follows_sees_anything_of_another_tenant() -> anyhow::Result<()> {
    let mut read = Read::after("select 1").await?;
    let mut tails = Vec::new();
    for (name, scope) in scopes() {
        for text in FILTERS {
            let tail = read.timeline.reader(scope.clone()).tail(&text.parse()?).await?;
            tails.push((name, text, tail));
        }
    }
    // Transactions of the sample have numbers of their own; here each is the one that writes it.
    let statements: Vec<String> = TENANTS.split(";\n").map(str::to_owned).collect();
    for n in 0..80 {
        read.connection.execute("begin").await?;
        for statement in &statements {
            let one = statement
                .replace("generate_series(0, 79) n", &format!("generate_series({n}, {n}) n"))
                .replace("n + 1, ", "txid_current(), ");
            read.connection.execute(AssertSqlSafe(one)).await?;
        }
        read.connection.execute("commit").await?;
    }
    let mut seen = 0;
    for (name, text, mut tail) in tails {
        let batch = tail.poll().await?;
        assert!(!others(&batch.entries), "{name}: {text}");
        assert!(batch.entries.is_empty() || !text.contains("OTHERS"), "{name}: {text}");
        seen += batch.entries.len();
    }
    assert!(seen > 1_000, "{seen}");
    Ok(())
}

/// Few rows of one's own among many of others, which have no full millisecond; some thousands of them share one.
const RARE: &str = "
insert into audit_transactions (id, txid, occurred_at, context)
select md5('t' || n)::uuid, n, timestamptz '2026-03-01Z' + interval '1 microsecond' * (case when n between 4000 and 6600 then 4000777777 else n::bigint * 1000777 end),
       jsonb_build_object('tenant', case when n % 700 = 0 then 'MINE' else 'OTHERS' end)
from generate_series(1, 9000) n;
insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
select md5('c' || txid)::uuid, id, 'public', 'posts', jsonb_build_object('id', txid::text), 'insert', '{}', occurred_at from audit_transactions";

#[tokio::test]
async fn no_cursor_of_one_tenant_names_an_entry_or_a_time_of_the_other() -> anyhow::Result<()> {
    let mut read = Read::after(RARE).await?;
    let others: Vec<(String, String, i64)> = sqlx::query_as(
        "select replace(t.id::text, '-', ''), replace(c.id::text, '-', ''), (extract(epoch from t.occurred_at) * 1000000)::bigint
         from audit_transactions t join audit_changes c on c.transaction_id = t.id where t.context ->> 'tenant' = 'OTHERS'",
    )
    .fetch_all(&mut read.connection)
    .await?;
    let mut foreign: BTreeSet<String> =
        others.into_iter().flat_map(|(one, other, at)| [one, other, at.to_string()]).collect();
    // Some of one's own share their time with thousands of others.
    foreign.remove("1772327200777777");
    let own: BTreeSet<Uuid> =
        sqlx::query_scalar("select md5('c' || n * 700)::uuid from generate_series(1, 12) n")
            .fetch_all(&mut read.connection)
            .await?
            .into_iter()
            .collect();
    let reader = read.timeline.reader(Scope::of_context("tenant", "MINE"));
    let oldest: Cursor = "0~00000000000000000000000000000000".parse()?;
    let oldest_by_unit: Cursor =
        "0~00000000000000000000000000000000~0~00000000000000000000000000000000".parse()?;
    for (by_transaction, oldest) in [(false, oldest), (true, oldest_by_unit)] {
        for (from, is_older) in [(From::Newest, true), (From::NewerThan(oldest.clone()), false)] {
            let mut request = PageRequest { size: 3, visited: 500, by_transaction, from };
            let (mut seen, mut stops) = (Vec::new(), 0);
            loop {
                let page = reader.page(&Filter::default(), &request).await?;
                seen.extend(page.entries.iter().map(threadline::query::Entry::id));
                stops += usize::from(page.visited_to.is_some());
                let next = if is_older { page.older } else { page.newer };
                let Some(next) = next.filter(|_| page.has_more) else { break };
                let told = next.to_string();
                for part in told.split('~') {
                    assert!(!foreign.contains(part), "{told} of a page to {:?}", page.visited_to);
                }
                request.from = if is_older { From::OlderThan(next) } else { From::NewerThan(next) };
            }
            assert!(stops > 5, "{stops}: it stopped among what is not its own");
            assert_eq!(seen.len(), own.len(), "{seen:?}");
            assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), own);
        }
    }
    Ok(())
}
