//! What the Elixir library answers of its own rows, asked of ours: a database that it has filled is read as it is.

use serde_json::json;
use sqlx::Executor as _;
use threadline::{
    ActorRef, ActorType,
    query::{Cursor, Entry, Filter, From, PageRequest, Window, row::At},
};
use uuid::Uuid;

use super::{library_database, pages::walk};

/// The library's answers: ids of changes by their last digits, newest first.
const ALL: std::ops::RangeInclusive<u32> = 1..=56;
const OF_COUNTERS: &[u32] =
    &[56, 55, 54, 52, 51, 50, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10];

fn change(n: u32) -> Uuid {
    format!("cccccccc-0000-4000-8000-{n:012}").parse().unwrap()
}

fn transaction(n: u32) -> Uuid {
    format!("aaaaaaaa-0000-4000-8000-{n:012}").parse().unwrap()
}

fn ids(entries: &[Entry]) -> Vec<Uuid> {
    entries.iter().map(Entry::id).collect()
}

#[tokio::test]
async fn timelines_of_changes_are_the_librarys() -> anyhow::Result<()> {
    let read = library_database().await?;
    let reader = read.reader();
    for (text, expected) in [
        ("kind:change", ALL.rev().collect::<Vec<_>>()),
        ("table:counters", OF_COUNTERS.to_vec()),
        ("kind:change actor:user:u-1", vec![1]),
        ("kind:change actor:anonymous", vec![10, 9, 8]),
        ("kind:change correlation:corr-1", vec![2, 1]),
        ("kind:change correlation:corr-2", vec![]),
        ("table:counters from:2026-03-01T00:00:15.000015Z to:2026-03-01T00:00:17.000017Z", vec![17, 16, 15]),
    ] {
        let entries = walk(&reader, &text.parse()?, &PageRequest::default()).await?;
        assert_eq!(ids(&entries), expected.into_iter().map(change).collect::<Vec<_>>(), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn pages_of_twenty_end_where_the_librarys_end() -> anyhow::Result<()> {
    let read = library_database().await?;
    let reader = read.reader();
    let filter: Filter = "kind:change".parse()?;
    let mut request = PageRequest { size: 20, ..PageRequest::default() };
    for (first, last, has_more) in [(56, 37, true), (36, 17, true), (16, 1, false)] {
        let page = reader.page(&filter, &request).await?;
        assert_eq!(ids(&page.entries), (last..=first).rev().map(change).collect::<Vec<_>>());
        assert_eq!(page.has_more, has_more);
        if let Some(cursor) = page.older {
            assert!(cursor.to_string().ends_with(&change(last).simple().to_string()), "{cursor}");
            request.from = From::OlderThan(cursor);
        }
    }
    // A page that is full, and has nothing behind it.
    let full = reader.page(&filter, &PageRequest { size: 56, ..PageRequest::default() }).await?;
    assert!(full.entries.len() == 56 && !full.has_more && full.older.is_none());
    Ok(())
}

#[tokio::test]
async fn actors_and_transactions_are_the_librarys() -> anyhow::Result<()> {
    let read = library_database().await?;
    let reader = read.reader();
    let history = async |actor: ActorRef| {
        let page = reader.actor_history(&actor, Window::Everything, &PageRequest::default()).await?;
        assert!(!page.has_more && page.older.is_none());
        anyhow::Ok(page.transactions.iter().map(|one| one.transaction.id).collect::<Vec<_>>())
    };
    assert_eq!(history(ActorRef::anonymous()).await?, [transaction(8)]);
    assert_eq!(history(ActorRef::new(ActorType::Admin, Some("a-9"))?).await?, [transaction(2)]);
    let context = reader.transaction(transaction(8), 50, None).await?.unwrap();
    assert_eq!(context.changes.iter().map(|one| one.id).collect::<Vec<_>>(), [10, 9, 8].map(change));
    assert!(context.action.is_none());
    let linked = reader.transaction(transaction(2), 50, None).await?.unwrap();
    let action = serde_json::to_value(linked.action)?;
    assert_eq!(
        action,
        json!({
            "id": "bbbbbbbb-0000-4000-8000-000000000002", "name": "user.renamed", "actor_ref": {"type": "admin", "id": "a-9"},
            "status": "error", "verb": null, "category": null, "reason": "why", "comment": "a \"comment\", with comma",
            "correlation_id": "corr-1", "request_id": null, "job_id": "job-7", "inserted_at": "2026-03-01T00:02:00.000001Z",
        })
    );
    assert!(reader.transaction(Uuid::nil(), 50, None).await?.is_none(), "not found");
    Ok(())
}

/// The library's transaction 13 has the actor `"text"`: its own exports and incident bundles raise on it.
#[tokio::test]
async fn an_actor_that_is_no_object_is_shown_as_it_is_stored() -> anyhow::Result<()> {
    let read = library_database().await?;
    sqlx::query(r#"update audit_transactions set actor_ref = '"text"' where id = $1"#)
        .bind(transaction(13))
        .execute(read.timeline.pool())
        .await?;
    let context = read.reader().transaction(transaction(13), 50, None).await?.unwrap();
    assert_eq!(serde_json::to_value(&context.transaction)?["actor_ref"], json!("text"));
    let entries = walk(&read.reader(), &Filter::default(), &PageRequest::default()).await?;
    assert_eq!(entries.len(), 59, "and so are the actions that nothing is linked to");
    Ok(())
}

/// Digits of numbers pass through no float.
#[tokio::test]
async fn numbers_keep_their_digits() -> anyhow::Result<()> {
    let read = library_database().await?;
    let entries =
        walk(&read.reader(), &"table:line_items op:insert".parse()?, &PageRequest::default()).await?;
    let text = serde_json::to_string(&entries)?;
    assert!(text.contains(r#""price": 19.90"#) && text.contains("9007199254740993"), "{text}");
    Ok(())
}

/// Years that a driver does not hold, and no end at all.
#[tokio::test]
async fn times_beyond_all_years_are_paged_as_others() -> anyhow::Result<()> {
    let read = library_database().await?;
    for (n, time) in
        [(56, "infinity"), (54, "infinity"), (55, "20000-01-01Z"), (1, "-infinity"), (2, "0044-03-15 BC")]
    {
        sqlx::query("update audit_changes set captured_at = $1::text::timestamptz where id = $2")
            .bind(time)
            .bind(change(n))
            .execute(read.timeline.pool())
            .await?;
    }
    let request = PageRequest { size: 1, ..PageRequest::default() };
    let entries = walk(&read.reader(), &"kind:change".parse()?, &request).await?;
    let expected: Vec<u32> = [56, 54, 55].into_iter().chain((3..=53).rev()).chain([2, 1]).collect();
    assert_eq!(ids(&entries), expected.into_iter().map(change).collect::<Vec<_>>());
    Ok(())
}

/// What no trigger would write, and no constraint refuses.
#[tokio::test]
async fn keys_and_actors_that_are_no_objects_end_no_question() -> anyhow::Result<()> {
    let mut read = library_database().await?;
    read.connection
        .execute(
            r#"update audit_changes set table_pk = '[1]' where id = 'cccccccc-0000-4000-8000-000000000056';
               update audit_changes set table_pk = '"7"' where id = 'cccccccc-0000-4000-8000-000000000055';
               update audit_changes set table_pk = 'null' where id = 'cccccccc-0000-4000-8000-000000000054'"#,
        )
        .await?;
    let reader = read.reader();
    let entries = walk(&reader, &"table:counters key:7".parse()?, &PageRequest::default()).await?;
    assert_eq!(ids(&entries), [18, 17, 16, 15, 14, 13].map(change));
    let row = reader.row(&"public.counters".parse()?, &"7".parse()?).await?;
    assert!(reader.as_of(&row, &At::latest()).await?.image().is_some());
    // A type that is longer than an entry of an index may be.
    let long = "update audit_transactions set actor_ref = jsonb_build_object('type', (select string_agg(md5(n::text), '') from generate_series(1, 300) n))";
    read.connection.execute(long).await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_asked_has_a_term() -> anyhow::Result<()> {
    let read = library_database().await?;
    let reader = read.reader();
    let term = async |text: &str, request: &PageRequest| {
        let filter = match text.parse::<Filter>() {
            Ok(filter) => filter,
            Err(error) => return Some(error.term()),
        };
        reader.page(&filter, request).await.err().and_then(|error| error.term())
    };
    let default = PageRequest::default();
    for (text, expected) in [
        ("user:1", Some("unknown_filter")),
        ("bogus:1", Some("unknown_filter")),
        ("correlation:\" \"", Some("filter_value")),
        ("from:yesterday", Some("filter_value")),
        ("key:1", Some("filter_combination")),
        ("", None),
    ] {
        assert_eq!(term(text, &default).await, expected, "{text}");
    }
    let long = "x".repeat(257);
    assert_eq!(term(&format!("correlation:{long}"), &default).await, Some("filter_value"));
    assert_eq!(term(&format!("correlation:{}", &long[1..]), &default).await, None);
    assert_eq!(term("", &PageRequest { size: 0, ..default.clone() }).await, Some("page_size"));
    assert_eq!(term("", &PageRequest { size: 1_001, ..default.clone() }).await, Some("page_size"));
    for text in ["", "x", "1~2", "~~~", "1~00000000000000000000000000000000~2"] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
    // A cursor of another order.
    let cursor: Cursor = "1~00000000000000000000000000000000".parse()?;
    let from = PageRequest { from: From::OlderThan(cursor), by_transaction: true, ..default };
    assert_eq!(term("", &from).await, Some("invalid_cursor"));
    // One of a form that PostgreSQL does not read.
    let cursor: Cursor = "99999-99-99~00000000000000000000000000000000".parse()?;
    let from = PageRequest { from: From::OlderThan(cursor), ..PageRequest::default() };
    assert_eq!(term("", &from).await, Some("invalid_time"));
    Ok(())
}

/// Nobody but a hand writes such names: readers go on, and filters find them.
#[tokio::test]
async fn names_that_are_null_or_nested_are_read_as_others() -> anyhow::Result<()> {
    let read = library_database().await?;
    let filter = "op:update changed:name".parse()?;
    let expected = ids(&walk(&read.reader(), &filter, &PageRequest::default()).await?);
    assert!(!expected.is_empty());
    sqlx::query("update audit_changes set changed_fields = array[changed_fields, array_fill(null::text, array[cardinality(changed_fields)])],
                 json_nulls = '{NULL,name}' where cardinality(changed_fields) > 0")
        .execute(read.timeline.pool())
        .await?;
    let entries = walk(&read.reader(), &filter, &PageRequest::default()).await?;
    assert_eq!(ids(&entries), expected);
    let text = serde_json::to_string(&entries[0])?;
    assert!(text.contains(r#""json_nulls":[null,"name"]"#) && text.contains("null]]"), "{text}");
    Ok(())
}
