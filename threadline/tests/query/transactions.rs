//! One transaction with all that is part of it, and the transactions of an actor.

use sqlx::Executor as _;
use threadline::{
    ActorRef, ActorType,
    query::{Count, Filter, From, PageRequest, Window},
};
use uuid::Uuid;

use super::Read;

const SAMPLE: &str = include_str!("sample.sql");

#[tokio::test]
async fn a_transaction_has_all_its_changes_page_by_page() -> anyhow::Result<()> {
    let mut read = Read::after(SAMPLE).await?;
    read.connection
        .execute(
            "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
             select 'b0000000-0000-4000-8000-000000000006', 'public', 'posts', '{}', 'insert', '2026-03-01Z' from generate_series(1, 40)",
        )
        .await?;
    let id: Uuid = "b0000000-0000-4000-8000-000000000006".parse()?;
    let expected: Vec<Uuid> = sqlx::query_scalar(
        "select id from audit_changes where transaction_id = $1 order by captured_at desc, id desc",
    )
    .bind(id)
    .fetch_all(&mut read.connection)
    .await?;
    let reader = read.reader();
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let context = reader.transaction(id, 7, cursor.as_ref()).await?.unwrap();
        assert_eq!(context.transaction.id, id);
        assert!(context.action.is_some(), "it is linked to one");
        found.extend(context.changes.iter().map(|change| change.id));
        assert_eq!(context.has_more, context.older.is_some());
        cursor = context.older;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, expected);
    assert!(reader.transaction(Uuid::nil(), 7, None).await?.is_none());
    assert_eq!(reader.transaction(id, 0, None).await.unwrap_err().term(), Some("page_size"));
    Ok(())
}

#[tokio::test]
async fn a_transaction_without_changes_is_one_as_well() -> anyhow::Result<()> {
    let read = Read::after(
        "insert into audit_transactions (id, txid) values ('b0000000-0000-4000-8000-000000000001', 1)",
    )
    .await?;
    let context =
        read.reader().transaction("b0000000-0000-4000-8000-000000000001".parse()?, 7, None).await?.unwrap();
    assert!(context.changes.is_empty() && !context.has_more && context.action.is_none());
    Ok(())
}

#[tokio::test]
async fn the_transactions_of_an_actor_are_paged_in_both_directions() -> anyhow::Result<()> {
    let mut read = Read::after(SAMPLE).await?;
    let expected: Vec<(Uuid, i64)> = sqlx::query_as(
        r#"select t.id, (select count(*) from audit_changes c where c.transaction_id = t.id) from audit_transactions t
           where t.actor_ref @> '{"type": "user", "id": "u1"}' order by t.occurred_at desc, t.id desc"#,
    )
    .fetch_all(&mut read.connection)
    .await?;
    let reader = read.reader();
    let actor = ActorRef::new(ActorType::User, Some("u1"))?;
    let mut request = PageRequest { size: 11, ..PageRequest::default() };
    let mut found = Vec::new();
    let mut newer = None;
    loop {
        let page = reader.actor_history(&actor, Window::Everything, &request).await?;
        found.extend(page.transactions.iter().map(|one| (one.transaction.id, one.changes)));
        newer = page.newer.or(newer);
        let Some(older) = page.older else { break };
        request.from = From::OlderThan(older);
    }
    assert_eq!(found, expected);
    // From the first one of the last page back to the newest one.
    let mut back = Vec::new();
    let mut cursor = newer.unwrap();
    loop {
        let page = reader
            .actor_history(
                &actor,
                Window::Everything,
                &PageRequest { from: From::NewerThan(cursor), ..request.clone() },
            )
            .await?;
        let mut ids: Vec<Uuid> = page.transactions.iter().map(|one| one.transaction.id).collect();
        ids.append(&mut back);
        back = ids;
        if !page.has_more {
            break;
        }
        cursor = page.newer.unwrap();
    }
    let first_of_last = expected.len() - 1 - (expected.len() - 1) % 11;
    assert_eq!(back, expected[..first_of_last].iter().map(|(id, _)| *id).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn entries_are_counted_exactly_up_to_ten_thousand() -> anyhow::Result<()> {
    let mut read = Read::after(SAMPLE).await?;
    let reader = read.reader();
    let count = async |text: &str| anyhow::Ok(reader.count(&text.parse::<Filter>()?).await?);
    assert_eq!(count("").await?, Count::Exactly(3_300));
    assert_eq!(count("kind:change").await?, Count::Exactly(3_000));
    assert_eq!(count("last:1s").await?, Count::Exactly(0));
    read.connection
        .execute(
            "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
             select 'b0000000-0000-4000-8000-000000000006', 'public', 'many', '{}', 'insert' from generate_series(1, 10001)",
        )
        .await?;
    assert_eq!(count("table:many").await?, Count::MoreThan(10_000));
    read.connection.execute("begin; lock table audit_changes in access exclusive mode").await?;
    assert_eq!(count("table:many").await?, Count::Unknown, "what waits takes too long");
    read.connection.execute("rollback").await?;
    Ok(())
}
