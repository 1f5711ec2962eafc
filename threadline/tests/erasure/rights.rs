//! What `deploy/postgres/timeline.sql` lets the role do that erases.

use sandbox::rights::{as_role, as_superuser, grant_timeline};
use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use threadline::{
    StorageSchema, Timeline,
    erasure::{self, ErasureOptions},
    receipts::{Trust, verify},
};

use super::{actor, host, person, row, with_key};

#[tokio::test]
async fn the_role_that_erases_may_do_that_and_nothing_else() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.as_actor(
        &json!({"type": "user", "id": "u-marker"}),
        &json!({"ip": "marker"}),
        "insert into users values (1, 'marker@x', 'A', 3), (2, 'marker2@x', 'B', 4)",
    )
    .await?;
    let storage = StorageSchema::default();
    let mut superuser = PgConnection::connect(&as_superuser(&host.database.url)).await?;
    grant_timeline(&mut superuser, &storage).await?;
    let url = as_role(&host.database.url, "audit_eraser");
    let timeline = Timeline::new(PgPool::connect(&url).await?, storage.clone());
    for erasure in [person("1"), with_key(row("users", 2)), actor("user", "u-marker", true)] {
        timeline.erase(&erasure, &ErasureOptions::dry_run()).await?;
        let erased = timeline.erase(&erasure, &ErasureOptions::because("request R-98765")).await?;
        assert!(erased.is_complete && erased.counts.total_values() > 0, "{erased:?}");
        assert!(erased.exports.is_some() && erased.archives.is_some());
    }
    assert!(host.tables_with("marker").await?.is_empty());
    let mut eraser = PgConnection::connect(&url).await?;
    for refused in [
        "update audit_changes set op = 'delete'",
        "update audit_changes set changed_fields = null",
        "update audit_changes set captured_at = now()",
        "update audit_transactions set occurred_at = now()",
        "update audit_actions set name = 'x'",
        "update audit_actions set inserted_at = now()",
        "delete from audit_changes",
        "delete from audit_actions",
        "delete from threadline_erasures",
        "delete from threadline_evidence_records",
        "insert into audit_changes default values",
        "update threadline_evidence_records set summary_status = 'x'",
        "select * from threadline_receipts",
        "select * from threadline_hash_keys",
        "truncate audit_changes",
        "select * from users",
        "update threadline_evidence_records set subject = 'x'",
        "update threadline_export_jobs set status = 'x'",
        "insert into threadline_saved_views (name, actor_ref, filters) values ('x', '{}', '{}')",
        "delete from threadline_export_jobs",
        "select location from threadline_archives",
        "update audit_transactions set correlation_id = null",
        "insert into audit_transactions (txid) values (7)",
        "insert into audit_actions (name, actor_ref, status, inserted_at) values ('a', '{}', 'ok', now())",
        "insert into threadline_migrations default values",
    ] {
        let error = eraser.execute(refused).await.unwrap_err();
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some("42501"), "{refused}: {error}");
    }
    let mut reader = PgConnection::connect(&as_role(&host.database.url, "audit_reader")).await?;
    assert_eq!(erasure::runs(&mut reader, &storage, 5).await?.len(), 3);
    for column in ["salt", "subject_hash"] {
        let asked = format!("select {column} from threadline_erasures");
        assert!(reader.execute(sqlx::AssertSqlSafe(asked)).await.is_err(), "{column}");
    }
    host.seal().await?;
    let as_reader =
        Timeline::new(PgPool::connect(&as_role(&host.database.url, "audit_reader")).await?, storage.clone());
    assert!(verify(&as_reader, &Trust::nothing(), |_| {}).await?.holds());
    let as_sealer =
        Timeline::new(PgPool::connect(&as_role(&host.database.url, "audit_sealer")).await?, storage);
    threadline::receipts::seal(&as_sealer, None, |_| {}).await?;
    Ok(())
}

#[tokio::test]
async fn whoever_may_not_erase_is_told_what_grants_it() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (1, 'a@x', 'A', 3)").await?;
    let mut superuser = PgConnection::connect(&as_superuser(&host.database.url)).await?;
    grant_timeline(&mut superuser, &StorageSchema::default()).await?;
    let url = as_role(&host.database.url, "audit_reader");
    let timeline = Timeline::new(PgPool::connect(&url).await?, StorageSchema::default());
    let refused =
        timeline.erase(&row("users", 1), &ErasureOptions::because("request R-98765")).await.unwrap_err();
    assert_eq!(refused.term(), Some("not_permitted"));
    assert!(refused.to_string().contains("audit_eraser"), "{refused}");
    Ok(())
}
