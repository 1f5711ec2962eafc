//! Values of one row.

use std::time::Duration;

use threadline::{
    erasure::ErasureOptions,
    query::{Key, row::RowPage},
};

use super::{counted, host, only, row, term, values, with_key};

const LIFE: &str = "
    insert into users values (1, 'jane-marker@x', 'Jane', 3), (2, 'other@x', 'Other', 5);
    update users set email = 'jane-marker2@x' where id = 1;
    update users set logins = 4 where id = 1;
    delete from users where id = 1";

#[tokio::test]
async fn all_columns_but_the_key_go_and_rows_stay() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(LIFE).await?;
    let before = host.texts("select row(id, transaction_id, op, table_pk, changed_fields, captured_at, position)::text from audit_changes order by position").await?;
    let dry = host.dry_run(&row("users", 1)).await?;
    assert_eq!(host.tables_with("jane-marker").await?, ["audit_changes"], "a dry run erases nothing");
    let erased = host.erase(&row("users", 1)).await?;
    assert_eq!(dry.counts, erased.counts);
    // Three images after, one before a delete, and two values before an update.
    let expected =
        counted(&[("public.users.email", 5), ("public.users.logins", 5), ("public.users.name", 4)]);
    assert_eq!(values(&erased), expected);
    assert_eq!((erased.passes, erased.is_complete, erased.is_resumed), (2, true, false));
    for text in ["jane-marker", "Jane"] {
        assert!(host.tables_with(text).await?.is_empty(), "{text}");
    }
    let after = host.texts("select row(id, transaction_id, op, table_pk, changed_fields, captured_at, position)::text from audit_changes order by position").await?;
    assert_eq!(after, before);
    let images = host
        .texts(
            "select data_after::text from audit_changes where table_pk = '{\"id\": \"1\"}' and op = 'insert'",
        )
        .await?;
    assert_eq!(images, [r#"{"id": 1, "name": "[ERASED]", "email": "[ERASED]", "logins": "[ERASED]"}"#]);
    assert_eq!(host.tables_with("other@x").await?, ["audit_changes"]);
    let again = host.erase(&row("users", 1)).await?;
    assert_eq!((values(&again), again.passes), (counted(&[]), 1));
    Ok(())
}

#[tokio::test]
async fn named_columns_go_alone_and_null_stays_null() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (1, 'jane-marker@x', null, 3)").await?;
    let erased = host.erase(&only(row("users", 1), &["email", "name"])).await?;
    assert_eq!(values(&erased), counted(&[("public.users.email", 1)]));
    let images = host.texts("select data_after::text from audit_changes").await?;
    assert_eq!(images, [r#"{"id": 1, "name": null, "email": "[ERASED]", "logins": 3}"#]);
    // What goes later is beside what went before; the hash is that of the first text.
    let hashes = "select erased #>> '{columns,data_after,sha256}' from audit_changes";
    let first = host.texts(hashes).await?;
    host.erase(&row("users", 1)).await?;
    assert_eq!(host.texts(hashes).await?, first);
    let keys = host.texts("select erased #>> '{columns,data_after,keys}' from audit_changes").await?;
    assert_eq!(keys, [r#"["email", "logins"]"#]);
    Ok(())
}

#[tokio::test]
async fn a_row_is_followed_through_its_keys_and_its_key_goes_too_where_it_is_asked_for() -> anyhow::Result<()>
{
    for asked in [771, 772, 773] {
        let mut host = host().await?;
        host.run(
            "insert into users values (771, 'jane-marker@x', 'Jane', 3), (5, 'other@x', 'Other', 5);
             update users set id = 772 where id = 771;
             update users set name = 'Jane-marker' where id = 772;
             update users set id = 773, email = 'jane-marker3@x' where id = 772",
        )
        .await?;
        host.seal().await?;
        let dry = host.dry_run(&with_key(row("users", asked))).await?;
        let erased = host.erase(&with_key(row("users", asked))).await?;
        assert_eq!(dry.counts, erased.counts, "{asked}");
        assert_eq!(erased.counts.rows["audit_changes"], 4);
        assert!(erased.is_complete);
        for text in ["marker", "Jane", "\"771\"", "\"772\"", "\"773\"", ": 77"] {
            assert!(host.tables_with(text).await?.is_empty(), "{asked}: {text}");
        }
        let run = erased.run.unwrap();
        let keys = host.texts("select distinct table_pk::text from audit_changes order by 1").await?;
        assert_eq!(keys, [r#"{"id": "5"}"#.to_owned(), format!(r#"{{"id": "erased-{run}"}}"#)]);
        // Its changes are still those of one row.
        let reader = host.reader();
        let found = reader.row(&"users".parse()?, &Key::Value(format!("erased-{run}"))).await?;
        assert_eq!(reader.row_history(&found, &RowPage::default()).await?.changes.len(), 4);
        for found in host.both().await? {
            assert!(found.holds(), "{:?}", found.faults);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_row_with_more_keys_than_are_followed_says_so_whatever_a_later_pass_finds() -> anyhow::Result<()> {
    for (changes, has_more) in [(22, false), (100, false), (105, true)] {
        let mut host = host().await?;
        host.run("insert into users values (1000, 'jane-marker@x', 'Jane', 3)").await?;
        let update = "update users set id = id + 1, email = 'jane-marker' || id || '@x';";
        host.run(update.repeat(changes)).await?;
        let erasure = with_key(row("users", 1000));
        let mut options = ErasureOptions::because("request R-98765");
        options.sleep = Duration::ZERO;
        let dry = host.dry_run(&erasure).await?;
        let erased = host.timeline.erase(&erasure, &options).await?;
        assert_eq!(dry.counts, erased.counts, "{changes}");
        for said in [&dry, &erased] {
            assert_eq!((said.has_more_keys, said.is_complete), (has_more, !has_more), "{changes}: {said:?}");
        }
        let left = host.count("audit_changes c where strpos(c::text, 'marker') > 0").await?;
        assert_eq!(left > 0, has_more, "{changes}: {left}");
        if has_more {
            let erased = host.timeline.erase(&with_key(row("users", 1105)), &options).await?;
            assert!(erased.is_complete && !erased.has_more_keys, "{erased:?}");
            assert!(host.tables_with("marker").await?.is_empty());
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_row_that_ever_had_the_key_goes_with_the_keys_that_it_got_and_no_other_row()
-> anyhow::Result<()> {
    for key_too in [true, false] {
        let mut host = host().await?;
        host.run(
            "insert into users values (1, 'marker-a@x', 'A', 1);
             update users set id = 2 where id = 1; update users set id = 3 where id = 2; delete from users where id = 3;
             insert into users values (1, 'marker-b@x', 'B', 1); delete from users where id = 1;
             insert into users values (4, 'marker-c@x', 'C', 1);
             update users set id = 1 where id = 4; update users set id = 5 where id = 1;
             update users set email = 'marker-d@x' where id = 5;
             insert into users values (1, 'marker-g@x', 'G', 1)",
        )
        .await?;
        host.run("insert into users values (2, 'other-e@x', 'E', 1), (4, 'other-f@x', 'F', 1)").await?;
        let others = host.count("audit_changes c where strpos(c::text, 'other-') > 0").await?;
        let erasure = row("users", 1);
        let erasure = if key_too { with_key(erasure) } else { erasure };
        let dry = host.dry_run(&erasure).await?;
        let erased = host.erase(&erasure).await?;
        assert_eq!(dry.counts, erased.counts);
        assert!(erased.is_complete && !erased.has_more_keys, "{erased:?}");
        assert!(host.tables_with("marker").await?.is_empty(), "{key_too}");
        assert_eq!(host.count("audit_changes c where strpos(c::text, 'other-') > 0").await?, others);
        assert_eq!(others, 2);
    }
    Ok(())
}

/// As the Elixir library's triggers write it: the key before is a value before.
const AS_THE_LIBRARY: &str = "update audit_changes set key_before = null";

#[tokio::test]
async fn a_row_is_followed_through_keys_as_the_elixir_library_records_them() -> anyhow::Result<()> {
    for (asked, key_too) in [(7710, true), (7711, true), (7712, true), (7710, false), (7712, false)] {
        let mut host = host().await?;
        host.run(
            "insert into users values (7710, 'marker0@x', 'N', 1), (5, 'other@x', 'O', 1);
             update users set id = 7711, email = 'marker1@x' where id = 7710;
             update users set email = 'marker2@x' where id = 7711;
             update users set id = 7712 where id = 7711;
             update users set email = 'marker3@x' where id = 7712;
             update users set id = 6 where id = 5;
             insert into users values (7711, 'other@x', 'O', 1)",
        )
        .await?;
        host.run(AS_THE_LIBRARY).await?;
        assert_eq!(host.count("audit_changes where op = 'update' and changed_from is null").await?, 0);
        host.seal().await?;
        // The key of another row that got it later is not this one's.
        let erasure = row("users", asked);
        let erasure = if key_too { with_key(erasure) } else { erasure };
        let dry = host.dry_run(&erasure).await?;
        let erased = host.erase(&erasure).await?;
        assert_eq!(dry.counts, erased.counts, "{asked}");
        assert!(erased.is_complete && !erased.has_more_keys, "{erased:?}");
        assert!(host.tables_with("marker").await?.is_empty(), "{asked} {key_too}");
        if key_too {
            // Not of the digits of a hash.
            for key in ["\"7710\"", ": 7710", "\"7712\"", ": 7712"] {
                assert!(host.tables_with(key).await?.is_empty(), "{asked}: {key}");
            }
        }
        for found in host.both().await? {
            assert!(found.holds(), "{:?}", found.faults);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_was_changed_as_often_as_a_batch_has_rows_ends_the_run() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(
        "insert into users values (771, 'jane-marker@x', 'Jane', 3);
         update users set id = 772 where id = 771; update users set id = 773 where id = 772",
    )
    .await?;
    for batch_size in [1, 2, 3] {
        let mut options = ErasureOptions::because("request R-98765");
        (options.batch_size, options.sleep) = (batch_size, Duration::ZERO);
        let erasure = with_key(row("users", 773));
        let erased =
            tokio::time::timeout(Duration::from_secs(60), host.timeline.erase(&erasure, &options)).await??;
        assert!(erased.is_complete && erased.counts.rows["audit_changes"] == 3, "{erased:?}");
        assert!(host.tables_with("\"773\"").await?.is_empty());
        host.run(
            "truncate audit_changes, users; insert into users values (771, 'a@x', 'A', 3);
                  update users set id = 772 where id = 771; update users set id = 773 where id = 772",
        )
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_are_committed_while_a_run_is_on_are_erased_by_it() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(
        "insert into users values (1, 'jane-marker@x', 'Jane', 3); update users set logins = 4 where id = 1",
    )
    .await?;
    let mut other = host.database.connect().await?;
    let mut writes = 0;
    let mut options = ErasureOptions::because("request R-98765");
    options.batch_size = 1;
    let erasure = row("users", 1);
    // The place of the walk is behind the last change when this one is committed with an earlier time.
    let late = "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
                select transaction_id, table_schema, table_name, table_pk, 'update', '{\"id\": 1, \"email\": \"jane-marker4@x\"}', '2020-01-01Z'
                from audit_changes limit 1";
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let writer = tokio::spawn(async move {
        tokio::task::spawn_blocking(move || receiver.recv()).await??;
        sqlx::Executor::execute(&mut other, late).await?;
        anyhow::Ok(())
    });
    let erased = host
        .timeline
        .erase_until(&erasure, &options, std::future::pending(), |_| {
            writes += 1;
            let _ = sender.send(());
        })
        .await?;
    writer.await??;
    assert!(writes >= 2 && erased.is_complete, "{erased:?}");
    let left = host.erase(&erasure).await?;
    let erased_by_both = erased.counts.total_rows() + left.counts.total_rows();
    assert_eq!(erased_by_both, 3);
    assert!(host.tables_with("jane-marker").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_column_of_the_key_is_not_erased_by_itself() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (1, 'jane@x', 'Jane', 3)").await?;
    assert_eq!(term(host.erase(&only(row("users", 1), &["id"])).await), Some("key_column"));
    assert_eq!(term(host.erase(&row("nowhere", 1)).await), Some("table_unknown"));
    assert_eq!(host.count("threadline_erasures").await?, 0);
    Ok(())
}

/// As only a hand writes them.
#[tokio::test]
async fn names_that_are_null_or_nested_keep_nothing_from_being_erased() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(LIFE).await?;
    host.run("update audit_changes set changed_fields = array[changed_fields, array[null]], json_nulls = '{NULL}' where op = 'update'").await?;
    let erased = host.erase(&row("users", 1)).await?;
    let expected =
        counted(&[("public.users.email", 5), ("public.users.logins", 5), ("public.users.name", 4)]);
    assert_eq!(values(&erased), expected);
    assert!(host.tables_with("jane-marker").await?.is_empty());
    Ok(())
}
