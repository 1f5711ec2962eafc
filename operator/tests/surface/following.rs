//! What is new, as it comes.

use futures::StreamExt as _;
use reqwest::header;
use sqlx::{Connection as _, Executor as _};

use super::{Console, DEADLINE};

/// Reads a stream until `wanted` stands in it.
async fn until(
    stream: &mut (impl futures::Stream<Item = reqwest::Result<impl AsRef<[u8]>>> + Unpin),
    wanted: &str,
) -> anyhow::Result<String> {
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, async {
        while !text.contains(wanted) {
            let part = stream
                .next()
                .await
                .ok_or_else(|| anyhow::anyhow!("the stream ended before {wanted}: {text}"))??;
            text.push_str(&String::from_utf8_lossy(part.as_ref()));
        }
        Ok(text)
    })
    .await?
}

const CHANGE: &str = "
    with t as (insert into audit_transactions (txid, occurred_at) values (pg_current_xact_id()::text::bigint, now()) returning id)
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after) select id, 'public', 'NAME', '{}', 'insert', '{\"a\": 1}' from t";

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_missed_and_a_stream_goes_on_where_it_ended()
-> anyhow::Result<()> {
    let console = Console::after("").await?;
    let mut late = console.database.connect().await?;
    late.execute("begin").await?;
    late.execute(sqlx::AssertSqlSafe(CHANGE.replace("NAME", "begun_early"))).await?;

    let mut stream = console.get("/timeline/tail").await?.bytes_stream();
    let begun = until(&mut stream, "event: begin").await?;
    let mut writer = console.database.connect().await?;
    writer.execute(sqlx::AssertSqlSafe(CHANGE.replace("NAME", "begun_later"))).await?;
    until(&mut stream, "begun_later").await?;
    late.execute("commit").await?;
    let text = until(&mut stream, "begun_early").await?;
    drop(stream);

    // What is written while nobody listens comes when somebody does again, and what was shown does not.
    writer.execute(sqlx::AssertSqlSafe(CHANGE.replace("NAME", "meanwhile"))).await?;
    let position = |text: &str| {
        text.lines().rev().find_map(|line| line.strip_prefix("id: ").map(str::to_owned)).unwrap()
    };
    let again = |position: String| {
        console
            .client
            .get(format!("{}/timeline/tail", console.url))
            .header(header::COOKIE, "staff=everything")
            .header("last-event-id", position)
            .send()
    };
    let mut stream = again(position(&text)).await?.bytes_stream();
    let text = until(&mut stream, "meanwhile").await?;
    assert!(!text.contains("begun_early") && !text.contains("begun_later"), "{text}");
    // Also where it was stopped by hand: then nothing but the URL says where.
    let url = format!("{}/timeline/tail?position={}", console.url, position(&begun));
    let request = console.client.get(url).header(header::COOKIE, "staff=everything");
    let mut stream = request.send().await?.bytes_stream();
    let text = until(&mut stream, "meanwhile").await?;
    assert!(text.contains("begun_early") && text.contains("begun_later"), "{text}");
    late.close().await?;
    Ok(())
}

#[tokio::test]
async fn those_who_follow_the_same_see_each_entry_once_wherever_they_began() -> anyhow::Result<()> {
    let console = Console::after("").await?;
    let mut writer = console.database.connect().await?;
    let follow = async |last: Option<&str>| {
        let mut request = console.client.get(format!("{}/timeline/tail", console.url));
        request = request.header(header::COOKIE, "staff=everything");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        anyhow::Ok(request.send().await?.bytes_stream())
    };
    let mut first = follow(None).await?;
    let begun = until(&mut first, "event: begin").await?;
    let position = begun.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let mut second = follow(None).await?;
    let mut texts = [String::new(), until(&mut second, "event: begin").await?];
    for name in ["one", "two", "three"] {
        writer.execute(sqlx::AssertSqlSafe(CHANGE.replace("NAME", name))).await?;
        for (text, stream) in texts.iter_mut().zip([&mut first, &mut second]) {
            text.push_str(&until(stream, name).await?);
        }
    }
    // A browser that comes back beside them.
    let mut third = follow(Some(&position)).await?;
    let third = until(&mut third, "three").await?;
    for text in texts.iter().chain([&third]) {
        assert_eq!(text.matches("data-id=").count(), 3, "{text}");
        for name in ["one", "two", "three"] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_shows_nothing_says_how_far_it_has_come() -> anyhow::Result<()> {
    let console = Console::after("").await?;
    let mut stream = console.get("/timeline/tail?table=nothing").await?.bytes_stream();
    let begun = until(&mut stream, "event: begin").await?;
    let id = |text: &str| text.lines().rev().find_map(|line| line.strip_prefix("id: ").map(str::to_owned));
    console.database.connect().await?.execute(sqlx::AssertSqlSafe(CHANGE.replace("NAME", "other"))).await?;
    // After some seconds.
    let told = until(&mut stream, "event: at").await?;
    assert!(!told.contains("data-id="), "{told}");
    assert_ne!(id(&begun), id(&told), "whoever comes back would look from the beginning");
    Ok(())
}
