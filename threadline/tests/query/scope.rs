//! Two tenants with the same tables, keys, actors and ids: nobody sees anything of the other one, whatever is asked.

use sqlx::{AssertSqlSafe, Executor as _};
use threadline::{
    ActorRef, ActorType,
    query::{Count, Filter, From, PageRequest, Reader, Window},
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
