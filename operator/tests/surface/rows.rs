//! A row through time, as its page shows it.

use reqwest::StatusCode;
use serde_json::Value;

use super::Console;

pub(crate) const INVESTIGATION: &str = include_str!("investigation.sql");

const ROW: &str = "/row?table=public.customers&key=7";

fn change(n: u32) -> String {
    format!("c0000000-0000-4000-8000-{n:012}")
}

fn columns(document: &Value) -> Vec<&str> {
    document["compared"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_row_is_shown_as_it_was_at_each_of_its_times() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    for (at, state, name) in [
        ("2026-03-01T09:59:59Z", "before_horizon", None),
        ("2026-03-01T10:00:00Z", "present", Some("Ada")),
        ("2026-03-01T10:59:59.999999Z", "present", Some("Ada")),
        ("2026-03-01T11:30", "present", Some("Ada L.")),
        ("2026-03-01T12:00:00Z", "present", Some("Ada L.")),
        ("2026-03-01T13:00:00Z", "deleted", None),
    ] {
        let document = console.json(&format!("{ROW}&at={at}")).await?;
        assert_eq!(document["as_of"]["as_of"]["state"], state, "{at}: {document}");
        assert_eq!(document["as_of"]["as_of"]["image"]["name"].as_str(), name, "{at}");
        assert_eq!(console.answer(&format!("{ROW}&at={at}")).await?.0, StatusCode::OK, "{at}");
    }
    // From its new key on, the row is followed.
    let document = console.json(&format!("{ROW}&at=2026-03-01T12:30:00Z")).await?;
    assert_eq!(document["as_of"]["row"]["key"]["id"], "8");
    let (status, html) = console.answer(&format!("{ROW}&at=noon")).await?;
    assert!(status == StatusCode::BAD_REQUEST && html.contains("<code>filter_value</code>"), "{html}");
    Ok(())
}

#[tokio::test]
async fn the_slider_leads_through_all_versions_without_a_script() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let mut path = format!("{ROW}&at=2026-03-01T10:00:00Z");
    for (number, state) in ["present", "present", "present", "deleted"].into_iter().enumerate() {
        let html = console.page(&path).await?;
        assert_eq!(html.matches("aria-current=\"step\"").count(), 1, "{path}");
        let document = console.json(&path).await?;
        assert_eq!(document["as_of"]["as_of"]["state"], state, "{number}");
        let later = html.split("rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(later.is_some(), number < 3, "{number}: {html}");
        if let Some(later) = later {
            path = later.trim_start_matches('.').replace("&amp;", "&");
        }
    }
    Ok(())
}

#[tokio::test]
async fn each_column_says_which_change_has_set_it() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let document = console.json(&format!("{ROW}&at=2026-03-01T11:00:00Z")).await?;
    let set_by = |name: &str| {
        let columns = document["as_of"]["blame"]["columns"].as_array().unwrap();
        columns.iter().find(|column| column["name"] == name).unwrap()["change"].as_str().unwrap().to_owned()
    };
    assert_eq!((set_by("name"), set_by("email"), set_by("bio")), (change(2), change(1), change(2)));
    let html = console.page(&format!("{ROW}&at=2026-03-01T11:00:00Z")).await?;
    assert!(
        html.contains(&format!("transactions/b0000000-0000-4000-8000-000000000002#{}", change(2))),
        "{html}"
    );
    assert!(html.contains("customer.renamed") && html.contains("threadline undo-plan c0000000"), "{html}");
    Ok(())
}

#[tokio::test]
async fn two_versions_are_compared_by_changes_and_by_times() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let compare = |one: &str, other: &str| format!("{ROW}&compare={one}&compare={other}");
    let document = console.json(&compare(&change(1), &change(2))).await?;
    assert_eq!(columns(&document), ["bio", "name", "settings"]);
    let document = console.json(&compare("2026-03-01T10:00:00Z", &change(3))).await?;
    assert_eq!(columns(&document), ["id", "name"]);
    assert_eq!(
        console.json(&compare(&change(1), &change(1))).await?["compared"]["columns"],
        serde_json::json!([])
    );
    // To what is gone, everything differs.
    let document = console.json(&compare(&change(3), &change(4))).await?;
    assert_eq!(
        (document["compared"]["after"]["is_present"].clone(), columns(&document).len()),
        (false.into(), 8)
    );
    let html = console.page(&compare(&change(1), &change(2))).await?;
    assert!(html.contains("theme</bdi></code>"), "{html}");
    assert!(
        html.contains("<del><bdi>tea.</bdi></del>") && html.contains("<ins><bdi>coffee.</bdi></ins>"),
        "{html}"
    );
    for (path, status, term) in [
        (format!("{ROW}&compare={}", change(1)), 400, "compare_unusable"),
        (format!("{ROW}&compare=1&compare=2&compare=3"), 400, "compare_unusable"),
        (compare(&change(1), "c0000000-0000-4000-8000-000000000099"), 404, "not_found"),
        (compare("soon", &change(1)), 400, "filter_value"),
    ] {
        let (found, html) = console.answer(&path).await?;
        assert_eq!(found, StatusCode::from_u16(status)?, "{path}");
        assert!(html.contains(&format!("<code>{term}</code>")), "{path}: {html}");
    }
    let of_another: uuid::Uuid =
        sqlx::query_scalar("select id from audit_changes where table_name = 'orders'")
            .fetch_one(&mut console.database.connect().await?)
            .await?;
    let (_, html) = console.answer(&compare(&change(1), &of_another.to_string())).await?;
    assert!(html.contains("<code>compare_unusable</code>"), "{html}");
    Ok(())
}

#[tokio::test]
async fn what_belongs_to_a_row_is_of_the_same_time() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    for (at, rows) in [("2026-03-01T10:15:00Z", 0), ("2026-03-01T10:45:00Z", 1)] {
        let document = console.json(&format!("{ROW}&at={at}&children=1")).await?;
        let children = &document["as_of"]["children"][0];
        assert_eq!(children["table"], "orders", "{document}");
        assert_eq!(children["rows"].as_array().unwrap().len(), rows, "{at}");
    }
    let html = console.page(&format!("{ROW}&at=2026-03-01T10:45:00Z&children=1")).await?;
    assert!(
        html.contains("row?table=public.orders&amp;key=%7B%22id%22%3A%221%22%7D&amp;at=2026-03-01T10"),
        "{html}"
    );
    assert!(console.json(ROW).await?["as_of"]["children"].is_null());
    Ok(())
}

#[tokio::test]
async fn what_is_not_known_of_a_row_is_said() -> anyhow::Result<()> {
    let mut console = Console::after(INVESTIGATION).await?;
    let html = console.page(ROW).await?;
    for words in [
        "was not captured",
        "bulk load",
        "All rows of its table went",
        "Purged by run d0000000-0000-4000-8000-000000000001",
        "Its key was changed",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    let marks = &console.json(ROW).await?["marks"];
    assert_eq!(marks["capture_off"][0]["from"], "2026-03-01T09:00:00.000000Z");
    assert_eq!(marks["capture_off"][0]["to"], "2026-03-01T09:30:00.000000Z");
    // A tenant sees that there is a gap, and not who made it.
    console.as_staff("t1");
    let html = console.page(ROW).await?;
    assert!(
        html.contains("was not captured") && !html.contains("bulk load") && !html.contains("who did that"),
        "{html}"
    );
    Ok(())
}

#[tokio::test]
async fn a_value_that_is_hidden_says_why_in_its_own_word() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let html = console.page(&format!("{ROW}&at=2026-03-01T11:00:00Z")).await?;
    for shown in [
        "<span class=\"masked\">masked</span></td>",
        "<span class=\"hashed\">hashed</span> <span class=\"literal\" title=\"HMAC-SHA-256 with the key default\"><bdi>abababababababab…</bdi>",
        "<span class=\"string\"><bdi>\\x68692121</bdi></span> <span class=\"none\">perhaps binary</span>",
        "<span class=\"large\">too large</span> <span class=\"literal\" title=\"SHA-256 of the value\">200000 bytes",
        "<span class=\"excluded\">not stored</span>",
    ] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    assert!(!html.contains("***"), "{html}");
    // Of a row that was deleted, what it held is shown, but for what was erased since.
    let html = console.page(ROW).await?;
    assert!(html.contains("<span class=\"erased\">erased</span>") && !html.contains("[ERASED]"), "{html}");
    Ok(())
}

#[tokio::test]
async fn versions_that_may_differ_in_what_is_hidden_are_not_called_the_same() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let mut connection = console.database.connect().await?;
    // Nothing but the columns that are masked and not stored may have changed by it.
    sqlx::raw_sql(
        "insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, captured_at)
         select 'c0000000-0000-4000-8000-000000000005', transaction_id, table_schema, table_name, table_pk, op, data_after, '{}',
                captured_at + interval '1 minute'
         from audit_changes where id = 'c0000000-0000-4000-8000-000000000002'",
    )
    .execute(&mut connection)
    .await?;
    let path = format!("{ROW}&compare={}&compare={}", change(2), change(5));
    let document = console.json(&path).await?;
    assert_eq!(columns(&document), [""; 0]);
    assert_eq!(document["compared"]["hidden"], serde_json::json!(["email", "password_hash"]));
    let html = console.page(&path).await?;
    assert!(
        html.contains("What is stored in clear is the same.") && !html.contains("They are the same."),
        "{html}"
    );
    assert_eq!(html.matches("hidden: not known whether it differs").count(), 2, "{html}");
    // Two that are one are the same.
    let html = console.page(&format!("{ROW}&compare={0}&compare={0}", change(2))).await?;
    assert!(html.contains("They are the same.") && !html.contains("hidden: not known"), "{html}");
    Ok(())
}

#[tokio::test]
async fn a_comparison_names_a_change_by_its_time() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let html = console.page(&format!("{ROW}&compare={}&compare={}", change(3), change(4))).await?;
    assert!(html.contains("After the change of <time datetime=\"2026-03-01T13:00:00.000000Z\""), "{html}");
    assert!(!html.contains(&format!("At <bdi>{}", change(4))), "{html}");
    Ok(())
}

#[tokio::test]
async fn no_writer_makes_a_page_say_that_a_value_is_hidden() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let mut connection = console.database.connect().await?;
    let hash = format!("hmac:x:{}", "ab".repeat(32));
    let texts = [("a", "[ERASED]"), ("b", "[REDACTED]"), ("c", hash.as_str()), ("d", "\\xff00")];
    let image: serde_json::Map<String, Value> =
        texts.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
    sqlx::query(
        "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
         select 'b0000000-0000-4000-8000-000000000001', 'public', t, '{\"id\": \"70\"}', 'insert', $1, '2026-03-01 10:00:00Z'
         from unnest(array['customers', 'orders']) t",
    )
    .bind(Value::Object(image))
    .execute(&mut connection)
    .await?;
    // Of one of both tables a policy is known.
    for table in ["customers", "orders"] {
        let html = console.page(&format!("/row?table={table}&key=70")).await?;
        for (_, text) in texts {
            let shown = format!("<td><span class=\"string\"><bdi>{text}</bdi></span>");
            assert!(html.contains(&shown), "{table}, {text}: {html}");
        }
        let claims = [
            "erased\">erased<",
            "<td><span class=\"masked\"",
            "<td><span class=\"hashed\"",
            "class=\"binary\"",
        ];
        for claim in claims {
            assert!(!html.contains(claim), "{table}, {claim}: {html}");
        }
    }
    Ok(())
}
