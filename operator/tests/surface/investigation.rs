//! Transactions, actions, actors, and what ties them together, as their pages show them.

use reqwest::StatusCode;
use sqlx::Executor as _;
use threadline::{StorageSchema, Timeline, receipts};

use super::{Console, rows::INVESTIGATION};

const MANY: &str = "/transactions/b0000000-0000-4000-8000-000000000005";

#[tokio::test]
async fn a_transaction_of_many_changes_is_shown_by_its_tables_page_by_page() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let document = console.json(MANY).await?;
    let tables = document["tables"].as_array().unwrap();
    let shown: Vec<(&str, i64, usize)> = tables
        .iter()
        .map(|table| {
            (
                table["table"].as_str().unwrap(),
                table["count"].as_i64().unwrap(),
                table["changes"].as_array().unwrap().len(),
            )
        })
        .collect();
    assert_eq!(shown, [("notes", 3, 3), ("posts", 120, 50)]);
    // Every change is on one page.
    let (mut path, mut ids) = (format!("{MANY}?table=public.posts"), std::collections::BTreeSet::new());
    for page in 0..3 {
        let document = console.json(&path).await?;
        let posts = &document["tables"][0];
        assert_eq!(posts["count"], 120, "{page}");
        ids.extend(
            posts["changes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|change| change["id"].as_str().unwrap().to_owned()),
        );
        assert_eq!(posts["older"].is_null(), page == 2);
        path = format!("{MANY}?table=public.posts&older={}", posts["older"].as_str().unwrap_or_default());
    }
    assert_eq!(ids.len(), 120);
    for (query, counts) in [
        ("?op=delete", vec![30]),
        ("?op=insert", vec![3, 90]),
        ("?table=notes", vec![3]),
        ("?table=notes&op=delete", vec![]),
        ("?form=1&table=&op=", vec![3, 120]),
    ] {
        let document = console.json(&format!("{MANY}{query}")).await?;
        let found: Vec<i64> = document["tables"]
            .as_array()
            .unwrap()
            .iter()
            .map(|table| table["count"].as_i64().unwrap())
            .collect();
        assert_eq!(found, counts, "{query}");
    }
    for (query, term) in [
        ("?op=merge", "filter_value"),
        ("?older=1~2", "invalid_cursor"),
        ("?table=posts&older=x", "invalid_cursor"),
    ] {
        let (status, html) = console.answer(&format!("{MANY}{query}")).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(html.contains(&format!("<code>{term}</code>")), "{query}: {html}");
    }
    Ok(())
}

#[tokio::test]
async fn a_transaction_says_everything_that_is_known_of_it() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let html = console.page("/transactions/b0000000-0000-4000-8000-000000000002").await?;
    for words in [
        "customer.renamed",
        "asked on the phone",
        "correlation?correlation=c-2",
        "request=r-2",
        "from=2026-03-01T10:00:00.000000Z",
        "The same actor before:",
        "transactions/b0000000-0000-4000-8000-000000000001",
        "transactions/b0000000-0000-4000-8000-000000000003",
        "threadline undo-plan b0000000-0000-4000-8000-000000000002",
        "<code><bdi>theme</bdi></code>",
        "<code><bdi>langs[1]</bdi></code>",
        "<ins><bdi>coffee.</bdi></ins>",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    assert!(!html.contains("10.50"), "what stays the same is not shown: {html}");
    Ok(())
}

#[tokio::test]
async fn a_transaction_says_which_receipt_covers_it_to_who_may_see_evidence() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    let timeline =
        Timeline::new(sqlx::PgPool::connect(&console.database.url).await?, StorageSchema::default());
    let mut ids = Vec::new();
    for _ in 0..5 {
        let id: uuid::Uuid = sqlx::query_scalar(
            "insert into audit_transactions (txid) values (pg_current_xact_id()::text::int8) returning id",
        )
        .fetch_one(&mut console.connection)
        .await?;
        ids.push(id);
        receipts::seal(&timeline, None, |_| {}).await?;
        // A receipt of nothing.
        receipts::seal(&timeline, None, |_| {}).await?;
    }
    console.as_staff("everything+evidence");
    for (number, id) in ids.iter().enumerate() {
        let document = console.json(&format!("/transactions/{id}")).await?;
        assert_eq!(document["receipt"]["n"], 2 * number + 1, "{document}");
    }
    let id: uuid::Uuid = sqlx::query_scalar(
        "insert into audit_transactions (txid) values (pg_current_xact_id()::text::int8) returning id",
    )
    .fetch_one(&mut console.connection)
    .await?;
    let html = console.page(&format!("/transactions/{id}")).await?;
    assert!(html.contains("No receipt covers it yet"), "{html}");
    console.as_staff("everything");
    let html = console.page(&format!("/transactions/{}", ids[0])).await?;
    assert!(!html.contains("receipt"), "{html}");
    Ok(())
}

#[tokio::test]
async fn an_action_shows_what_it_changed() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let html = console.page("/actions/a0000000-0000-4000-8000-000000000001").await?;
    assert!(html.contains("row?table=public.customers") && html.contains("Ada L."), "{html}");
    let html = console.page("/actions/a0000000-0000-4000-8000-000000000002").await?;
    assert!(html.contains("No captured row that you may see, or its changes were purged."), "{html}");
    Ok(())
}

#[tokio::test]
async fn an_actor_is_shown_in_numbers_of_a_window() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let activity = console.json("/actor?actor=admin:a1").await?["activity"].clone();
    assert_eq!(
        (&activity["transactions"], &activity["actions"], &activity["errors"]),
        (&6.into(), &4.into(), &1.into())
    );
    assert_eq!(activity["first_seen"], "2026-03-01T09:00:00.000000Z");
    assert_eq!(activity["is_bounded"], false);
    let frequency = |of: &str| {
        let frequencies = activity[of].as_array().unwrap();
        frequencies
            .iter()
            .map(|one| (one["name"].as_str().unwrap(), one["count"].as_i64().unwrap()))
            .collect::<Vec<_>>()
    };
    // Of each transaction 100 changes count.
    assert_eq!(frequency("by_table").iter().map(|(_, count)| count).sum::<i64>(), 106);
    assert!(frequency("by_action").contains(&("card.charged", 1)));
    assert_eq!(activity["has_more_changes"], true);
    let html = console.page("/actor?actor=admin:a1").await?;
    assert!(html.contains("Of each transaction 100 changes were counted"), "{html}");
    let counts = frequency("by_table");
    assert!(!counts.is_empty());
    for (table, count) in counts {
        assert!(html.contains(&format!("<td>{count}+</td>")), "{table}: {html}");
    }
    let activity = console.json("/actor?actor=admin:a1&last=24h").await?["activity"].clone();
    assert_eq!(activity["has_more_changes"], false);
    assert_eq!((&activity["transactions"], &activity["actions"]), (&0.into(), &1.into()));
    for (path, words) in [
        ("/actor?actor=admin:a1&last=24h", "This actor was last seen"),
        ("/actor?actor=admin:a1&last=24h", "Look at all times"),
        ("/actor?actor=user:nobody", "Never seen"),
        ("/actor?actor=anonymous", "It is not one person."),
    ] {
        let html = console.page(path).await?;
        assert!(html.contains(words), "{path}: {html}");
    }
    let (status, html) = console.answer("/actor?actor=somebody:1").await?;
    assert!(status == StatusCode::BAD_REQUEST && html.contains("service_account"), "{html}");
    Ok(())
}

#[tokio::test]
async fn numbers_of_an_actor_are_those_of_the_scope() -> anyhow::Result<()> {
    let mut console = Console::after(INVESTIGATION).await?;
    console
        .connection
        .execute("update audit_transactions set context = '{\"tenant\": \"t2\"}' where id = 'b0000000-0000-4000-8000-000000000005'")
        .await?;
    for (staff, transactions, actions) in [("everything", 6, 4), ("t1", 5, 1), ("t2", 1, 0), ("t3", 0, 0)] {
        console.as_staff(staff);
        let activity = console.json("/actor?actor=admin:a1").await?["activity"].clone();
        assert_eq!(
            (&activity["transactions"], &activity["actions"]),
            (&transactions.into(), &actions.into()),
            "{staff}"
        );
        assert_eq!(activity["first_seen"].is_null(), staff == "t3", "{staff}");
    }
    Ok(())
}

#[tokio::test]
async fn what_ties_entries_together_can_be_exported_as_it_is_shown() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let html = console.page("/correlation?correlation=c-2").await?;
    assert!(
        html.contains("threadline export run &#39;correlation:c-2&#39;")
            || html.contains("threadline export run 'correlation:c-2'"),
        "{html}"
    );
    let path = "/incidents/b0000000-0000-4000-8000-000000000002";
    let html = console.page(path).await?;
    for words in [
        "Same correlation",
        "Same request",
        "correlation:c-2",
        "request:r-2",
        "Ada L.",
        "threadline incident b0000000",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    let document = console.json(path).await?;
    assert_eq!(document["tied"][0]["filter"]["correlation"], "c-2");
    assert_eq!(document["incident"]["changes"].as_array().unwrap().len(), 1);
    Ok(())
}
