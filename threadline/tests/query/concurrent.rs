//! Pages while others write.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::Executor as _;
use threadline::{
    Action, ActorRef, ActorType, AuditContext, Timeline,
    query::{Entry, Filter, From, PageRequest},
};
use uuid::Uuid;

use super::{Read, capture};

fn actor() -> ActorRef {
    ActorRef::new(ActorType::User, Some("u1")).unwrap()
}

/// A transaction of the actor's, with changes and an action.
async fn write(timeline: &Timeline, round: u32) -> anyhow::Result<()> {
    let context = AuditContext::from(actor()).correlation_id("c1");
    timeline
        .transaction(context)
        .action(Action::new("t.written", actor()).correlation_id("c1"))
        .run(async |connection| {
            connection.execute("insert into t (v) values (1), (2)").await?;
            if round.is_multiple_of(3) {
                connection.execute("update t set v = v + 1 where id = (select max(id) from t)").await?;
            }
            Ok::<_, sqlx::Error>(())
        })
        .await?;
    Ok(())
}

/// Somebody writes between any two pages, and what was captured before commits after what was captured later.
#[tokio::test]
async fn a_walk_has_every_entry_that_was_there_once_while_others_write() -> anyhow::Result<()> {
    let mut read =
        Read::after("create table t (id bigint generated always as identity primary key, v int)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    for round in 0..60 {
        write(&read.timeline, round).await?;
    }
    let reader = read.reader();
    let mut late = read.database.connect().await?;
    for text in
        ["", "kind:change", "table:t", "actor:user:u1", "correlation:c1", "action:t.written", "op:update"]
    {
        for by_transaction in [false, true] {
            let filter: Filter = text.parse()?;
            let mut request = PageRequest { size: 1_000, by_transaction, ..PageRequest::default() };
            let before: BTreeSet<Uuid> =
                reader.page(&filter, &request).await?.entries.iter().map(Entry::id).collect();
            assert!((10..1_000).contains(&before.len()), "{text}: {}", before.len());
            request.size = 9;
            let mut walked = BTreeSet::new();
            for round in 0.. {
                late.execute("begin; insert into t (v) values (-1)").await?;
                if round < 20 {
                    write(&read.timeline, round).await?;
                }
                let page = reader.page(&filter, &request).await?;
                late.execute("commit").await?;
                for id in page.entries.iter().map(Entry::id) {
                    assert!(walked.insert(id), "{text} by transaction {by_transaction}: {id} is there twice");
                }
                let Some(older) = page.older else { break };
                request.from = From::OlderThan(older);
            }
            let missing = before.difference(&walked).count();
            assert_eq!(missing, 0, "{text} by transaction {by_transaction}: of {}", before.len());
        }
    }
    Ok(())
}
