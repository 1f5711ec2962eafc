//! What is not undone, and why.

use serde_json::{Value, json};
use threadline::query::Undo;

use super::{Read, capture, undo::POSTS};

/// Of the newest change: number of statements, and field and term of each refusal.
async fn refused(read: &mut Read) -> anyhow::Result<(usize, Value)> {
    let plan = read.undo_newest().await?;
    let refused = plan.refused.iter().map(|one| json!([one.field, one.term])).collect();
    Ok((plan.statements.len(), refused))
}

/// After these statements on posts that are captured under a policy.
async fn after(policy: Value, statements: &[&str]) -> anyhow::Result<Read> {
    let mut read = Read::after(POSTS).await?;
    capture(&mut read.connection, &[("posts", policy)]).await?;
    for statement in statements {
        read.run(statement).await?;
    }
    Ok(read)
}

const INSERT: &str = "insert into posts values (1, 'a', 'b', '{\"k\": 1}')";
const UPDATE: &str = "update posts set title = 'c'";
const DELETE: &str = "delete from posts";

#[tokio::test]
async fn rows_that_a_truncate_removed_are_refused() -> anyhow::Result<()> {
    let mut read = after(json!({}), &[INSERT, "truncate posts"]).await?;
    assert_eq!(refused(&mut read).await?, (0, json!([[null, "truncate"]])));
    Ok(())
}

#[tokio::test]
async fn a_redacted_field_is_refused_and_shown_nowhere() -> anyhow::Result<()> {
    for (policy, field, value) in [
        (json!({"mask": ["title"]}), "title", "RAW"),
        (json!({"hash": ["title"]}), "title", "RAW"),
        (json!({"paths": ["meta.k"]}), "meta", r#"{"k": "RAW", "j": 1}"#),
    ] {
        let update = format!("update posts set {field} = '{value}', body = 'd'");
        let mut read = after(policy.clone(), &[INSERT, &update]).await?;
        let plan = read.undo_newest().await?;
        assert_eq!(plan.statements[0].fields, ["body"]);
        let fields: Vec<_> = plan.refused.iter().map(|one| (one.field.as_deref(), one.term)).collect();
        assert_eq!(fields, [(Some(field), "redacted")]);
        assert!(!format!("{plan:?}{}", plan.to_sql()).contains("RAW"));
        read.run(DELETE).await?;
        assert_eq!(refused(&mut read).await?, (0, json!([[null, "redacted"]])), "{policy}");
    }
    let mut read = after(json!({"exclude": ["body"]}), &[INSERT, DELETE]).await?;
    assert_eq!(refused(&mut read).await?, (0, json!([[null, "redacted"]])));
    Ok(())
}

/// The table has the value, its image does not: both show the same before and after.
#[tokio::test]
async fn a_redacted_field_that_shows_the_same_before_and_after_is_refused_too() -> anyhow::Result<()> {
    let twice =
        "begin; update posts set title = 'x', body = 'y'; update posts set title = 'a', body = 'b'; commit";
    let mut read = after(json!({"mask": ["title"]}), &[INSERT, twice]).await?;
    let plan = read.undo_newest_transaction().await?;
    assert_eq!((plan.statements.len(), plan.refused.len(), plan.refused[0].term), (0, 1, "redacted"));
    Ok(())
}

#[tokio::test]
async fn the_insert_of_a_row_with_redacted_columns_is_undone_with_a_note() -> anyhow::Result<()> {
    let mut read = after(
        json!({"mask": ["title"], "exclude": ["body"]}),
        &["insert into posts values (1, 'RAW', 'RAW')"],
    )
    .await?;
    let plan = read.undo_newest().await?;
    assert!(plan.refused.is_empty() && plan.statements[0].notes[0].contains("body, title"), "{plan:?}");
    assert!(!format!("{plan:?}").contains("RAW"));
    read.run(&plan.to_sql()).await?;
    Ok(())
}

/// Whoever has changed the policy since cannot make a placeholder a value.
#[tokio::test]
async fn what_was_redacted_before_the_policy_was_changed_is_refused() -> anyhow::Result<()> {
    let path = r#"update posts set meta = '{"j": 1}'"#;
    let mut read = after(json!({"paths": ["meta.k"], "mask_placeholder": "gone"}), &[INSERT, path]).await?;
    read.run("alter table posts add column later int").await?;
    capture(&mut read.connection, &[("posts", json!({"mask": ["body"]}))]).await?;
    capture(&mut read.connection, &[("posts", json!({}))]).await?;
    assert_eq!(refused(&mut read).await?, (0, json!([["meta", "policy_newer"]])));
    for (policy, title) in [
        (json!({}), "'[REDACTED]'"),
        (json!({"mask": ["meta"], "mask_placeholder": "gone"}), "'gone'"),
        (json!({}), "'hmac:k1:00'"),
    ] {
        let mut read = after(policy, &[INSERT, &format!("update posts set title = {title}"), UPDATE]).await?;
        assert_eq!(refused(&mut read).await?, (0, json!([["title", "redacted"]])));
    }
    let mut read = after(json!({}), &[INSERT, DELETE]).await?;
    capture(&mut read.connection, &[("posts", json!({}))]).await?;
    read.run("update threadline_capture_policies set installed_at = clock_timestamp()").await?;
    assert_eq!(refused(&mut read).await?, (0, json!([[null, "policy_newer"]])));
    Ok(())
}

#[tokio::test]
async fn a_table_without_a_policy_that_can_be_read_is_refused() -> anyhow::Result<()> {
    for spoil in [
        "delete from threadline_capture_policies",
        "update threadline_capture_policies set policy = policy || '{\"mask\": 1}'",
        "alter table threadline_capture_policies rename column policy to other",
    ] {
        let mut read = after(json!({}), &[INSERT, UPDATE, spoil]).await?;
        assert_eq!(refused(&mut read).await?, (0, json!([[null, "policy_unknown"]])), "{spoil}");
    }
    Ok(())
}

#[tokio::test]
async fn a_field_whose_value_before_was_not_stored_is_refused() -> anyhow::Result<()> {
    let mut read = after(json!({"store_changed_from": false}), &[INSERT, UPDATE]).await?;
    assert_eq!(refused(&mut read).await?, (0, json!([["title", "before_unknown"]])));
    Ok(())
}

#[tokio::test]
async fn a_document_that_was_null_is_refused_since_nobody_knows_which_null_it_was() -> anyhow::Result<()> {
    let mut read =
        after(json!({}), &["insert into posts values (1)", "update posts set meta = '{}', title = 'a'"])
            .await?;
    assert_eq!(refused(&mut read).await?, (1, json!([["meta", "null_unclear"]])));
    Ok(())
}

#[tokio::test]
async fn a_row_that_is_gone_there_again_or_was_changed_since_is_refused() -> anyhow::Result<()> {
    let mut read = after(json!({}), &[INSERT, UPDATE]).await?;
    let update = read.newest().await?.0;
    read.run(DELETE).await?;
    let plan = read.reader().undo_plan(Undo::Change(update)).await?;
    assert_eq!((plan.statements.len(), plan.refused[0].term), (0, "row_missing"));
    let delete = read.newest().await?.0;
    read.run(INSERT).await?;
    let insert = read.newest().await?.0;
    let plan = read.reader().undo_plan(Undo::Change(delete)).await?;
    assert_eq!((plan.statements.len(), plan.refused[0].term), (0, "row_present"));
    // Another row came in under the key, and has what the change wrote.
    read.run(UPDATE).await?;
    let plan = read.reader().undo_plan(Undo::Change(update)).await?;
    assert_eq!((plan.statements.len(), plan.refused[0].term), (0, "row_replaced"));
    read.run("update posts set title = 'x', meta = null").await?;
    let plan = read.reader().undo_plan(Undo::Change(insert)).await?;
    let fields: Vec<_> = plan.refused.iter().map(|one| (one.field.as_deref(), one.term)).collect();
    assert_eq!(
        (plan.statements.len(), &fields[..]),
        (0, &[(Some("meta"), "conflict"), (Some("title"), "conflict")][..])
    );
    Ok(())
}

#[tokio::test]
async fn a_delete_without_an_image_is_refused() -> anyhow::Result<()> {
    let mut read = after(json!({}), &[INSERT, DELETE, "update audit_changes set data_before = null"]).await?;
    assert_eq!(refused(&mut read).await?, (0, json!([[null, "image_missing"]])));
    Ok(())
}

#[tokio::test]
async fn tables_and_columns_that_are_not_what_they_were_are_refused() -> anyhow::Result<()> {
    for (statement, alteration, expected) in [
        (UPDATE, "drop table posts", (0, json!([[null, "table_missing"]]))),
        (UPDATE, "alter table posts rename id to key", (0, json!([[null, "key_unknown"]]))),
        (UPDATE, "alter table posts rename title to heading", (0, json!([["title", "column_missing"]]))),
        (DELETE, "alter table posts drop column title", (0, json!([["title", "column_missing"]]))),
        (DELETE, "alter table posts add column c int not null", (0, json!([["c", "column_required"]]))),
        (DELETE, "alter table posts add column c int not null default 1, add column d int", (1, json!([]))),
        (
            DELETE,
            "alter table posts alter column title type int using length(title)",
            (0, json!([["title", "unrestorable"]])),
        ),
        (
            DELETE,
            "alter table posts alter column title type varchar(1), add check (title <> 'a')",
            (1, json!([])),
        ),
        (INSERT, "alter table posts add column c int default 1", (0, json!([["c", "conflict"]]))),
    ] {
        let mut read = after(json!({}), &[]).await?;
        if statement != INSERT {
            read.run(INSERT).await?;
        }
        read.run(statement).await?;
        read.run(alteration).await?;
        assert_eq!(refused(&mut read).await?, expected, "{alteration}");
    }
    Ok(())
}

#[tokio::test]
async fn a_column_that_became_not_null_takes_no_null_back() -> anyhow::Result<()> {
    let mut read = after(
        json!({}),
        &["insert into posts values (1)", UPDATE, "alter table posts alter column title set not null"],
    )
    .await?;
    assert_eq!(refused(&mut read).await?, (0, json!([["title", "not_null"]])));
    Ok(())
}

#[tokio::test]
async fn a_value_that_was_too_large_to_be_stored_is_refused() -> anyhow::Result<()> {
    let large = r#"{"title": {"threadline.too_large": {"bytes": 1, "sha256": ""}}}"#;
    let spoil =
        format!("update audit_changes set changed_from = '{large}', data_before = data_before || '{large}'");
    let mut read = after(json!({}), &[INSERT, UPDATE, &spoil]).await?;
    assert_eq!(refused(&mut read).await?, (0, json!([["title", "too_large"]])));
    let mut read = after(json!({}), &[INSERT, DELETE, &spoil]).await?;
    assert_eq!(refused(&mut read).await?, (0, json!([["title", "too_large"]])));
    Ok(())
}

#[tokio::test]
async fn a_document_that_was_stored_as_text_is_refused() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, j json)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    read.run("insert into t values (1, '\"text\"')").await?;
    read.run("update t set j = '{}'").await?;
    let plan = read.undo_newest().await?;
    assert!(plan.refused.is_empty() && plan.statements[0].notes.len() == 1, "{plan:?}");
    read.run("update t set j = '\"[1]\"'").await?;
    read.run("update t set j = '[]'").await?;
    assert_eq!(refused(&mut read).await?, (0, json!([["j", "document_unclear"]])));
    Ok(())
}

#[tokio::test]
async fn an_identity_that_no_update_can_set_is_refused() -> anyhow::Result<()> {
    let mut read =
        Read::after("create table t (id int primary key generated always as identity, v int)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    read.run("insert into t (v) values (1); update t set id = default, v = 2").await?;
    assert_eq!(refused(&mut read).await?, (1, json!([["id", "identity"]])));
    Ok(())
}

#[tokio::test]
async fn a_transaction_some_of_whose_changes_are_gone_is_refused_row_by_row() -> anyhow::Result<()> {
    let mut read = after(
        json!({}),
        &[
            INSERT,
            "insert into posts values (2, 'a', 'b')",
            "begin; update posts set title = 'c'; update posts set title = 'd'; update posts set title = 'e'; commit",
            "delete from audit_changes where table_pk = '{\"id\": \"1\"}' and changed_from ->> 'title' = 'c'",
        ],
    )
    .await?;
    let plan = read.undo_newest_transaction().await?;
    assert_eq!((plan.statements.len(), plan.refused.len(), plan.refused[0].term), (1, 1, "incomplete"));
    assert_eq!(plan.statements[0].key.get(), r#"{"id": "2"}"#);
    Ok(())
}

#[tokio::test]
async fn a_table_that_cannot_be_read_is_refused() -> anyhow::Result<()> {
    let mut read = after(json!({}), &[INSERT, UPDATE]).await?;
    read.run("revoke select on posts from current_user").await?;
    assert_eq!(refused(&mut read).await?, (0, json!([[null, "unreadable"]])));
    Ok(())
}

#[tokio::test]
async fn a_key_that_several_rows_have_by_now_is_refused() -> anyhow::Result<()> {
    let mut read = after(
        json!({}),
        &[
            INSERT,
            "alter table posts drop constraint posts_pkey",
            "insert into posts values (1)",
            "update posts set title = 'c' where title = 'a'",
        ],
    )
    .await?;
    let update = "select id from audit_changes where op = 'update'";
    let update = sqlx::query_scalar(update).fetch_one(&mut read.connection).await?;
    let plan = read.reader().undo_plan(Undo::Change(update)).await?;
    assert_eq!((plan.statements.len(), plan.refused[0].term), (0, "key_ambiguous"));
    Ok(())
}
