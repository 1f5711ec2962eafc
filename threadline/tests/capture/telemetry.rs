//! What an audited transaction says of itself.

use sandbox::heard::Heard;
use serde_json::json;
use sqlx::Executor as _;

use super::audited::{audited, insert, user};

#[tokio::test]
async fn events_are_emitted_after_the_commit_alone_and_hold_nothing_of_the_data() -> anyhow::Result<()> {
    let mut host = audited().await?;
    let (heard, _listening) = Heard::of("threadline");
    let timeline = host.timeline.clone();
    let transaction = || {
        timeline
            .transaction(threadline::AuditContext::of(user()).correlation_id("c1"))
            .action(threadline::Action::new("post.created", user()).reason("because"))
            .meta(json!({"k": 1}).as_object().unwrap().clone())
    };
    let failed = transaction()
        .run(async |connection| {
            insert(connection, 1).await.unwrap();
            Err::<(), _>("not today")
        })
        .await;
    assert!(failed.is_err());
    host.connection
        .execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
             create constraint trigger late after insert on posts deferrable initially deferred for each row execute function refuse()",
        )
        .await?;
    transaction().run(async |connection| insert(connection, 1).await).await.unwrap_err();
    host.connection.execute("drop trigger late on posts").await?;
    let mut open = host.timeline.pool().begin().await?;
    threadline::Action::new("a.b", user()).record(&mut open, host.timeline.schema()).await?;
    open.commit().await?;
    assert_eq!(heard.taken(), Vec::<String>::new(), "whoever commits says so");
    host.timeline.record(threadline::Action::new("a.b", user()).status(threadline::Status::Error)).await?;
    assert_eq!(heard.taken(), ["threadline.action.recorded status=\"error\""]);
    transaction().run(async |connection| insert(connection, 1).await).await?;
    assert_eq!(
        heard.taken(),
        ["threadline.action.recorded status=\"ok\"", "threadline.transaction.committed captured=true"]
    );
    Ok(())
}

#[tokio::test]
async fn coverage_says_how_many_tables_and_findings_there_are_and_of_what_kind_its_failure_is()
-> anyhow::Result<()> {
    use threadline::coverage::{Expectations, read};
    let mut host = audited().await?;
    let storage = host.timeline.schema().clone();
    host.connection
        .execute("create table _sqlx_migrations (id int); alter table posts disable trigger user")
        .await?;
    let (heard, _listening) = Heard::of("threadline.health");
    read(&mut host.connection, &storage, None, &Expectations::default()).await?;
    let role = sandbox::rights::as_role(&host.database.url, "audit_projector");
    let mut projector = <sqlx::PgConnection as sqlx::Connection>::connect(&role).await?;
    read(&mut projector, &storage, None, &Expectations::default()).await.unwrap_err();
    let said = heard.taken();
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(said[0], "threadline.health.checked covered=0 uncovered=2 expected_uncovered=1");
    assert!(said[1].starts_with("threadline.health.findings_checked errors="), "{said:?}");
    assert!(!said[1].contains("errors=0"), "{said:?}");
    assert_eq!(said[2], "threadline.health.checked.error kind=\"not_permitted\"");
    Ok(())
}
