//! A person, by a policy.

use serde_json::json;
use threadline::{ActorType, erasure::Erasure};

use super::{counted, host, person, policy, term, values};

#[tokio::test]
async fn rows_of_a_person_are_found_by_every_image_and_by_their_keys() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(
        "insert into users values (1, 'jane-marker@x', 'Jane', 3), (2, 'other@x', 'Other', 5);
         insert into posts values (10, 1, 'marker one', null), (11, 2, 'two', null), (12, 1, 'marker three', null);
         update posts set body = 'marker four' where id = 10;
         update posts set author_id = 2 where id = 12; update posts set body = 'five' where id = 12;
         delete from posts where id = 10;
         insert into notes values (1, 'marker note'), (2, 'note');
         -- Of a row whose image lacks the column that says whose it is.
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
         select transaction_id, 'public', 'posts', '{\"id\": \"10\"}', 'update', '{\"id\": 10, \"body\": \"marker six\"}' from audit_changes limit 1;
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
         select transaction_id, 'public', 'posts', '{\"id\": \"11\"}', 'update', '{\"id\": 11, \"body\": \"seven\"}' from audit_changes limit 1",
    )
    .await?;
    host.seal().await?;
    let dry = host.dry_run(&person("1")).await?;
    let erased = host.erase(&person("1")).await?;
    assert_eq!(dry.counts, erased.counts);
    assert!(host.tables_with("marker").await?.is_empty());
    // What somebody else has made of a row of the person's later may hold the same values.
    assert!(host.tables_with("five").await?.is_empty());
    // Rows of others.
    for text in ["other@x", "two", "seven", "\"note\""] {
        assert_eq!(host.tables_with(text).await?, ["audit_changes"], "{text}");
    }
    let counts = values(&erased);
    assert_eq!(
        (counts["public.users.email"], counts["public.users.name"], counts["public.notes.body"]),
        (1, 1, 1)
    );
    assert!(host.verify().await?.holds());
    assert_eq!(values(&host.erase(&person("1")).await?), counted(&[]));
    Ok(())
}

#[tokio::test]
async fn a_subject_column_may_be_erased_itself() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(
        "insert into users select n, 'jane-marker@x', 'marker name', n from generate_series(1, 120) n; update users set logins = 0;
         insert into users values (200, 'other@x', 'Other', 0)",
    )
    .await?;
    let policy = threadline::erasure::ErasurePolicy::default().table(
        super::table("users"),
        "email",
        ["email", "name"],
    );
    let erasure = Erasure::Person { id: "jane-marker@x".to_owned(), policy };
    let mut options = threadline::erasure::ErasureOptions::because("request R-98765");
    options.batch_size = 7;
    options.sleep = std::time::Duration::ZERO;
    let erased = host.timeline.erase(&erasure, &options).await?;
    assert_eq!(erased.counts.rows["audit_changes"], 240);
    assert!(host.tables_with("marker").await?.is_empty());
    assert_eq!(host.tables_with("other@x").await?, ["audit_changes"]);
    Ok(())
}

#[tokio::test]
async fn a_person_is_an_actor_too_where_the_policy_says_so() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.as_actor(
        &json!({"type": "user", "id": "7712"}),
        &json!({}),
        "insert into users values (1, 'a@x', 'A', 3)",
    )
    .await?;
    let with_actor = Erasure::Person { id: "7712".to_owned(), policy: policy().actor(ActorType::User) };
    assert_eq!(values(&host.erase(&person("7712")).await?), counted(&[]));
    assert_eq!(values(&host.erase(&with_actor).await?), counted(&[("audit_transactions.actor_ref", 1)]));
    assert!(host.tables_with("\"7712\"").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_table_that_there_is_not_is_no_reason_to_leave_values() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (1, 'a@x', 'A', 3)").await?;
    let policy = policy().table(super::table("usres"), "id", ["email"]);
    let erasure = Erasure::Person { id: "1".to_owned(), policy };
    assert_eq!(term(host.dry_run(&erasure).await), Some("table_unknown"));
    assert_eq!(term(host.erase(&erasure).await), Some("table_unknown"));
    let runs = host.texts("select status || ' ' || error_message from threadline_erasures").await?;
    assert_eq!(runs.len(), 1);
    assert!(runs[0].starts_with("failed table_unknown"), "{runs:?}");
    Ok(())
}

#[tokio::test]
async fn a_row_that_has_left_the_person_is_followed_through_keys_that_it_got_later() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(
        "insert into posts values (10, 1, 'marker one', null), (30, 2, 'two', null);
         -- Whose it is, and its key, at the same time; then its key alone, twice, and whose it is once more.
         update posts set id = 11, author_id = 2 where id = 10;
         update posts set meta = '1' where id = 11;
         update posts set id = 12 where id = 11; update posts set meta = '2' where id = 12;
         update posts set id = 13, author_id = 3 where id = 12; update posts set body = 'marker two' where id = 13;
         delete from posts where id = 13;
         -- As the triggers of the Elixir library say a key that was changed.
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, changed_from)
         select transaction_id, 'public', 'posts', '{\"id\": \"14\"}', 'update', '{\"id\": 14, \"author_id\": 3, \"body\": \"marker three\"}',
                '{id}', '{\"id\": 13}' from audit_changes limit 1;
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
         select transaction_id, 'public', 'posts', '{\"id\": \"14\"}', 'update', '{\"id\": 14, \"author_id\": 3, \"body\": \"marker four\"}'
         from audit_changes limit 1",
    )
    .await?;
    host.seal().await?;
    let dry = host.dry_run(&person("1")).await?;
    let erased = host.erase(&person("1")).await?;
    assert_eq!(dry.counts, erased.counts);
    assert!(host.tables_with("marker").await?.is_empty());
    assert_eq!(host.tables_with("\"two\"").await?, ["audit_changes"]);
    assert!(host.verify().await?.holds());
    Ok(())
}

#[tokio::test]
async fn a_column_that_nothing_holds_is_no_reason_to_leave_values() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (1, 'a@x', 'A', 3); alter table users add column later text").await?;
    for (subject, columns, expected) in [
        ("uid", &["email"][..], Some("column_unknown")),
        ("later", &["email"], Some("column_unknown")),
        ("id", &["email", "emial"], Some("column_unknown")),
        ("id", &["email", "later"], None),
    ] {
        let policy = threadline::erasure::ErasurePolicy::default().table(
            super::table("users"),
            subject,
            columns.iter().copied(),
        );
        let erasure = Erasure::Person { id: "1".to_owned(), policy };
        let counted = host.dry_run(&erasure).await;
        assert_eq!(counted.err().and_then(|error| error.term()), expected, "{subject} {columns:?}");
    }
    let columns = |names: &[&str]| super::only(super::row("users", 1), names);
    assert_eq!(term(host.dry_run(&columns(&["emial"])).await), Some("column_unknown"));
    host.dry_run(&columns(&["email", "later"])).await?;
    host.run("alter table users drop column email").await?;
    assert_eq!(values(&host.erase(&columns(&["email"])).await?), counted(&[("public.users.email", 1)]));
    Ok(())
}
