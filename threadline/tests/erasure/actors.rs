//! Who it was.

use serde_json::json;

use super::{actor, counted, host, values};

#[tokio::test]
async fn an_actor_gets_one_pseudonym_wherever_it_stands() -> anyhow::Result<()> {
    let mut host = host().await?;
    let (jane, other) =
        (json!({"type": "user", "id": "jane-marker"}), json!({"type": "user", "id": "other"}));
    host.as_actor(
        &jane,
        &json!({"source": "web", "ip": "ip-text"}),
        "insert into users values (1, 'a@x', 'A', 3)",
    )
    .await?;
    host.as_actor(&other, &json!({"ip": "other-ip"}), "insert into users values (2, 'b@x', 'B', 3)").await?;
    host.run(
        "insert into audit_actions (id, name, actor_ref, status, reason, comment, correlation_id) values
             ('a0000000-0000-4000-8000-000000000001', 'user.banned', '{\"type\": \"user\", \"id\": \"jane-marker\"}', 'ok', 'reason-text', 'comment-text', null),
             ('a0000000-0000-4000-8000-000000000002', 'event', '{\"type\": \"user\", \"id\": \"jane-marker\"}', 'ok', null, null, 'a0000000-0000-4000-8000-000000000002'),
             ('a0000000-0000-4000-8000-000000000003', 'threadline.capture.disabled', '{\"type\": \"user\", \"id\": \"jane-marker\"}', 'ok', 'kept-text', '{}', null),
             ('a0000000-0000-4000-8000-000000000004', 'user.banned', '{\"type\": \"admin\", \"id\": \"jane-marker2\"}', 'ok', 'why', null, null);
         insert into threadline_evidence_records (subject, subject_ref, summary_status, recorded_at, actor_ref, detail) values
             ('export_delivery', '{\"sha256\": \"x\"}', 'ok', now(), '{\"type\": \"user\", \"id\": \"jane-marker\"}', '{\"filter\": {\"actor\": \"user:jane-marker\"}}'),
             ('export_delivery', '{\"sha256\": \"y\"}', 'ok', now(), '{\"type\": \"user\", \"id\": \"other\"}', '{\"actor\": {\"type\": \"user\", \"id\": \"jane-marker\"}}'),
             ('export_delivery', '{\"sha256\": \"z\"}', 'ok', now(), null, '{}');
         insert into threadline_export_jobs (status, query_params, actor_ref) values ('done', '{\"actor_ref\": {\"type\": \"user\", \"id\": \"jane-marker\"}}', '{\"type\": \"user\", \"id\": \"jane-marker\"}');
         insert into threadline_export_jobs (status, query_params, request) values ('pending', '{}', '{\"filter\": \"actor:user:jane-marker last:7d\"}');
         insert into threadline_export_schedules (name, query_params, request, actor_ref, every_seconds, next_at)
         values ('daily', '{}', '{\"filter\": \"op:update actor:user:jane-marker\"}', '{\"type\": \"user\", \"id\": \"jane-marker\"}', 86400, now());
         insert into threadline_saved_views (name, actor_ref, filters) values ('mine', '{\"type\": \"user\", \"id\": \"jane-marker\"}', '{}')",
    )
    .await?;
    let erasure = actor("user", "jane-marker", false);
    let dry = host.dry_run(&erasure).await?;
    let erased = host.erase(&erasure).await?;
    assert_eq!(dry.counts, erased.counts);
    let expected = counted(&[
        ("audit_actions.actor_ref", 3),
        ("audit_transactions.actor_ref", 1),
        ("threadline_evidence_records.actor", 2),
        ("threadline_export_jobs.actor", 2),
        ("threadline_export_schedules.actor", 1),
        ("threadline_saved_views.actor", 1),
    ]);
    assert_eq!(values(&erased), expected);
    // Another one's name begins with it, and stays.
    assert_eq!(host.tables_with("jane-marker").await?, ["audit_actions"]);
    assert_eq!(host.count("audit_actions where actor_ref ->> 'id' = 'jane-marker2'").await?, 1);
    let pseudonym = format!("erased-{}", erased.run.unwrap());
    let who = format!("actor_ref = '{{\"type\": \"user\", \"id\": \"{pseudonym}\"}}'");
    for (table, count) in [
        ("audit_actions", 3),
        ("audit_transactions", 1),
        ("threadline_evidence_records", 1),
        ("threadline_saved_views", 1),
    ] {
        assert_eq!(host.count(&format!("{table} where {who}")).await?, count, "{table}");
    }
    assert_eq!(host.tables_with("ip-text").await?, ["audit_transactions"]);
    assert_eq!(erased.exports, Some(3));
    Ok(())
}

#[tokio::test]
async fn texts_go_where_it_is_asked_for() -> anyhow::Result<()> {
    let mut host = host().await?;
    let jane = json!({"type": "user", "id": "jane-marker"});
    host.as_actor(
        &jane,
        &json!({"source": "web", "ip": "ip-text", "none": null}),
        "insert into users values (1, 'a@x', 'A', 3)",
    )
    .await?;
    host.run(
        "insert into audit_actions (name, actor_ref, status, reason, comment) values
             ('user.banned', '{\"type\": \"user\", \"id\": \"jane-marker\"}', 'ok', 'reason-text', 'comment-text'),
             ('threadline.capture.disabled', '{\"type\": \"user\", \"id\": \"jane-marker\"}', 'ok', 'kept-text', '{}')",
    )
    .await?;
    host.seal().await?;
    let dry = host.dry_run(&actor("user", "jane-marker", true)).await?;
    let erased = host.erase(&actor("user", "jane-marker", true)).await?;
    assert_eq!(dry.counts, erased.counts);
    for text in ["jane-marker", "ip-text", "reason-text", "comment-text"] {
        assert!(host.tables_with(text).await?.is_empty(), "{text}");
    }
    // Capture is switched on again by it.
    assert_eq!(host.tables_with("kept-text").await?, ["audit_actions"]);
    assert!(host.verify().await?.holds());
    Ok(())
}

/// Exports a part of the timeline, to nowhere.
async fn export_of(host: &super::Host, filter: &str) -> anyhow::Result<()> {
    use threadline::export::{Destination, Options, Request, export};
    let nowhere = Destination::Stream { out: Box::new(std::io::sink()), manifest: None };
    export(&host.reader(), Request::new(filter.parse()?, Options::default()), nowhere).await?;
    Ok(())
}

#[tokio::test]
async fn what_was_exported_of_an_actor_or_a_row_does_not_name_it_any_more() -> anyhow::Result<()> {
    let mut host = host().await?;
    let jane = json!({"type": "user", "id": "jane-marker"});
    host.as_actor(&jane, &json!({}), "insert into users values (771, 'a@x', 'A', 3)").await?;
    host.run("update users set id = 772 where id = 771; insert into users values (7, 'b@x', 'B', 1)").await?;
    for filter in [
        "actor:user:jane-marker",
        "op:insert actor:user:jane-marker last:7d",
        "actor:user:jane",
        "table:users key:771",
        "table:public.users key:{\"id\":\"772\"} op:update",
        "table:users key:7",
    ] {
        export_of(&host, filter).await?;
    }
    host.seal().await?;
    let actor = actor("user", "jane-marker", false);
    let dry = host.dry_run(&actor).await?;
    let erased = host.erase(&actor).await?;
    assert_eq!((dry.exports, dry.archives), (Some(6), Some(0)));
    assert_eq!(dry.counts, erased.counts);
    let expected = counted(&[
        ("audit_actions.comment", 2),
        ("audit_transactions.actor_ref", 1),
        ("threadline_evidence_records.actor", 2),
    ]);
    assert_eq!(values(&erased), expected);
    assert!(host.tables_with("jane-marker").await?.is_empty());
    assert_eq!(host.tables_with("actor:user:jane").await?, ["audit_actions", "threadline_evidence_records"]);
    let row = super::with_key(super::row("users", 772));
    let dry = host.dry_run(&row).await?;
    let erased = host.erase(&row).await?;
    assert_eq!(dry.counts, erased.counts);
    assert_eq!(
        (values(&erased)["audit_actions.comment"], values(&erased)["threadline_evidence_records.key"]),
        (2, 2)
    );
    for key in ["771", "772"] {
        for text in [format!("key:{key}"), format!("\"{key}\""), format!("\\\"{key}")] {
            assert!(host.tables_with(&text).await?.is_empty(), "{text}");
        }
    }
    assert_eq!(
        host.tables_with("table:users key:7").await?,
        ["audit_actions", "threadline_evidence_records"]
    );
    for found in host.both().await? {
        assert!(found.holds(), "{:?}", found.faults);
    }
    Ok(())
}

#[tokio::test]
async fn a_key_goes_from_filters_that_are_objects_where_the_table_is_the_rows() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (771, 'a@x', 'A', 3)").await?;
    host.run(
        r#"update users set id = 772 where id = 771;
           insert into threadline_export_schedules (name, query_params, request, every_seconds, next_at)
           select n, q::jsonb, '{}', 60, now() from (values
               ('1', '{"key": "771", "table": "users"}'),
               ('2', '{"key": "{\"id\":\"772\"}", "table": "public.users", "op": "update", "actor": "user:u1", "text": "a"}'),
               ('3', '{"key": "771", "table": "posts"}'),
               ('4', '{"key": "771", "table": "billing.users"}'),
               ('5', '{"key": "7711", "table": "users"}'),
               ('6', '{"a": "771", "table": "users"}'),
               ('7', '["key", "table"]')) v (n, q)"#,
    )
    .await?;
    host.run(
        "insert into threadline_export_jobs (status, query_params, request)
         select 'pending', query_params, '{}' from threadline_export_schedules",
    )
    .await?;
    let erasure = super::with_key(super::row("users", 771));
    let dry = host.dry_run(&erasure).await?;
    let erased = host.erase(&erasure).await?;
    assert_eq!(dry.counts, erased.counts);
    for table in ["threadline_export_schedules", "threadline_export_jobs"] {
        assert_eq!(values(&erased)[&format!("{table}.key")], 2, "{table}");
        let other = format!("erased-{}", erased.run.unwrap());
        assert_eq!(
            host.texts(&format!(
                "select query_params::text from {table} order by query_params::text collate \"C\""
            ))
            .await?,
            [
                r#"["key", "table"]"#.to_owned(),
                r#"{"a": "771", "table": "users"}"#.to_owned(),
                r#"{"key": "771", "table": "billing.users"}"#.to_owned(),
                r#"{"key": "771", "table": "posts"}"#.to_owned(),
                r#"{"key": "7711", "table": "users"}"#.to_owned(),
                format!(r#"{{"key": "{other}", "table": "users"}}"#),
                format!(
                    r#"{{"op": "update", "key": "{other}", "text": "a", "actor": "user:u1", "table": "public.users"}}"#
                ),
            ],
            "{table}"
        );
    }
    assert_eq!(host.dry_run(&erasure).await?.counts.total_values(), 0);
    Ok(())
}

#[tokio::test]
async fn an_event_that_is_delivered_again_or_repaired_stays_erased_and_is_no_difference() -> anyhow::Result<()>
{
    use threadline::{AuditAction, StoredAction, action, stored};
    let mut host = host().await?;
    let event = |id: u128, who: &str| {
        let id = uuid::Uuid::from_u128(id);
        let who = threadline::ActorRef::new(threadline::ActorType::User, Some(who)).unwrap();
        let mut event =
            AuditAction::new(id, "auth.login.success", who, time::macros::datetime!(2026-05-15 12:00 UTC));
        (event.correlation_id, event.reason) = (Some(id.to_string()), Some("reason-text".to_owned()));
        event
    };
    let events = [event(7, "jane-marker"), event(8, "other")];
    let table = host.timeline.schema().actions();
    action::insert_batch(&mut host.connection, &table, &events).await?;
    host.erase(&actor("user", "jane-marker", true)).await?;
    assert_eq!(action::overwrite_batch(&mut host.connection, &table, &events, true).await?, 1);
    action::insert_batch(&mut host.connection, &table, &events).await?;
    assert!(host.tables_with("jane-marker").await?.is_empty());
    for event in &events {
        let expected = StoredAction::expected(event);
        let found = stored::find(&mut host.connection, &table, &[event.id]).await?.remove(0);
        let is_erased = event.id == events[0].id;
        assert_eq!(
            expected.differences(&found),
            if is_erased { vec!["actor_ref", "reason"] } else { vec![] }
        );
        assert_eq!(found.but_for_erasures(&expected), expected);
    }
    Ok(())
}
