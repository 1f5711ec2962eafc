//! The timeline's tables on a real PostgreSQL.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod catalog;
mod shadow;
mod shadow_filled;
mod upgrade;

use std::time::Duration;

use sandbox::{
    fixture::{empty_database, timeline_database},
    wait,
};
use sqlx::Executor as _;
use threadline::{
    Action, ActorRef, ActorType, AuditAction, Status, StorageSchema, Timeline,
    action::{Inserted, insert_batch},
};
use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

fn user() -> ActorRef {
    ActorRef::new(ActorType::User, Some("u1")).unwrap()
}

fn action(id: Uuid) -> AuditAction {
    let time = datetime!(2026-05-15 12:00:00.123457 UTC);
    let mut action = AuditAction::new(id, "auth.login.success", user(), time);
    action.correlation_id = Some(id.to_string());
    action
}

#[tokio::test]
async fn an_action_is_recorded_with_every_option() -> anyhow::Result<()> {
    let mut connection = timeline_database().await?.connect().await?;
    let recorded = Action::new("auth.login", user())
        .status(Status::Error)
        .verb("login")
        .category("auth")
        .reason("locked")
        .comment("third time")
        .correlation_id("c1")
        .request_id("r1")
        .job_id("j1")
        .record(&mut connection, &StorageSchema::default())
        .await?;
    let stored: serde_json::Value =
        sqlx::query_scalar("select to_jsonb(a) - '{inserted_at,txid}'::text[] from audit_actions a")
            .fetch_one(&mut connection)
            .await?;
    assert_eq!(
        stored,
        serde_json::json!({
            "id": recorded.id, "name": "auth.login", "actor_ref": {"type": "user", "id": "u1"}, "status": "error",
            "verb": "login", "category": "auth", "reason": "locked", "comment": "third time",
            "correlation_id": "c1", "request_id": "r1", "job_id": "j1", "erased": null,
        })
    );
    assert!((OffsetDateTime::now_utc() - recorded.inserted_at).whole_minutes().abs() < 5);
    Ok(())
}

#[tokio::test]
async fn a_timeline_of_the_hosts_own_installs_and_records() -> anyhow::Result<()> {
    let database = empty_database().await?;
    let pool = sqlx::PgPool::connect(&database.url).await?;
    let timeline = Timeline::new(pool, "audit_1".parse()?);
    timeline.install().await?;
    let status = timeline.check().await?;
    assert!(status.is_installed && status.has_key && status.missing_tables.is_empty(), "{status:?}");
    let recorded = timeline.record(Action::new("a.b", ActorRef::anonymous())).await?;
    assert_eq!(recorded.status, Status::Ok);
    let stored: (Uuid, serde_json::Value) =
        sqlx::query_as("select id, actor_ref from audit_1.audit_actions").fetch_one(timeline.pool()).await?;
    assert_eq!(stored, (recorded.id, serde_json::json!({"type": "anonymous"})));
    Ok(())
}

#[tokio::test]
async fn an_action_shares_the_fate_of_the_callers_transaction() -> anyhow::Result<()> {
    let mut connection = timeline_database().await?.connect().await?;
    connection.execute("begin").await?;
    Action::new("a.b", user()).record(&mut connection, &StorageSchema::default()).await?;
    connection.execute("rollback").await?;
    let count: i64 =
        sqlx::query_scalar("select count(*) from audit_actions").fetch_one(&mut connection).await?;
    assert_eq!(count, 0);
    Ok(())
}

#[tokio::test]
async fn a_batch_tells_new_from_present_from_conflicting() -> anyhow::Result<()> {
    let mut connection = timeline_database().await?.connect().await?;
    let schema = StorageSchema::default();
    let (old, new, taken) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let first = insert_batch(&mut connection, &schema.actions(), &[action(old)]).await?;
    assert_eq!(first, Inserted { written: vec![old], ..Inserted::default() });
    let mut foreign = action(taken);
    foreign.correlation_id = Some("request-7".into());
    insert_batch(&mut connection, &schema.actions(), &[foreign]).await?;

    // The same event twice in one batch, as a redelivery beside the original.
    let batch = [action(old), action(new), action(new), action(taken)];
    let second = insert_batch(&mut connection, &schema.actions(), &batch).await?;
    assert_eq!(
        second,
        Inserted { written: vec![new], present: vec![old], conflicting: vec![taken], ..Inserted::default() }
    );
    let time: String =
        sqlx::query_scalar("select (inserted_at at time zone 'UTC')::text from audit_actions where id = $1")
            .bind(new)
            .fetch_one(&mut connection)
            .await?;
    assert_eq!(time, "2026-05-15 12:00:00.123457");
    assert_eq!(insert_batch(&mut connection, &schema.actions(), &[]).await?, Inserted::default());
    Ok(())
}

/// Batches in opposite orders, let go at one moment: without an order of their own they deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn overlapping_batches_in_any_order_do_not_deadlock() -> anyhow::Result<()> {
    let database = timeline_database().await?;
    let mut holder = database.connect().await?;
    for _ in 0..20 {
        holder.execute("begin; lock table audit_actions").await?;
        let mut forward: Vec<AuditAction> = (0..500).map(|_| action(Uuid::new_v4())).collect();
        let mut writers = Vec::new();
        for _ in 0..4 {
            forward.reverse();
            let (database, batch) = (database.clone(), forward.clone());
            writers.push(tokio::spawn(async move {
                insert_batch(&mut database.connect().await?, &StorageSchema::default().actions(), &batch)
                    .await?;
                anyhow::Ok(())
            }));
        }
        wait::until_some("all writers to wait for the table", Duration::from_secs(60), async || {
            let waiting: i64 = sqlx::query_scalar(
                // Activity would be that of the first look: it stays the same within a transaction.
                "select count(*) from pg_locks where not granted and relation = 'audit_actions'::regclass",
            )
            .fetch_one(&mut holder)
            .await?;
            Ok((waiting == 4).then_some(()))
        })
        .await?;
        holder.execute("commit").await?;
        for writer in writers {
            writer.await??;
        }
    }
    Ok(())
}
