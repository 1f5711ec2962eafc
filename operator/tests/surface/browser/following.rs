//! What is new, as somebody who looks sees it.

use anyhow::ensure;
use sandbox::proxy::Proxy;
use sqlx::{AssertSqlSafe, Executor as _};

use super::{Browser, Console, SHOP};

fn change(key: u32) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "with t as (insert into audit_transactions (txid, occurred_at) values (pg_current_xact_id()::text::bigint, now()) returning id)
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
         select id, 'public', 'orders', '{{\"id\": \"{key}\"}}', 'insert', '{{\"id\": {key}}}' from t"
    ))
}

/// Keys of the list, the newest first, as far as they were written here.
const KEYS: &str = "[...document.querySelectorAll('ol.entries .key')].map(key => key.textContent).filter(key => key > '9000').join()";

#[tokio::test]
async fn a_late_commit_arrives_and_is_inserted_when_somebody_asks_for_it() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let mut late = console.database.connect().await?;
    late.execute("begin").await?;
    late.execute(change(9001)).await?;

    let browser = Browser::open(&console).await?;
    browser.visit("/timeline?table=orders").await?;
    browser.click("button.tail").await?;
    browser.until("the stream", "document.body.dataset.following === 'yes'").await?;
    ensure!(browser.value("document.querySelector('#new').hidden").await? == true);
    late.execute("commit").await?;
    browser.until("the entry", "document.querySelector('#new').textContent === '1 new entry'").await?;
    ensure!(browser.text("#said").await? == "1 new entry", "nobody hears of it");
    ensure!(browser.value(KEYS).await? == "", "it is in the list before somebody has asked for it");
    browser.click("#new button").await?;
    browser.until("the list", &format!("{KEYS} === '9001'")).await?;
    ensure!(browser.value("document.querySelector('#new').hidden").await? == true);

    // Further ones are counted together; what is in the list already is not added to it.
    late.execute(change(9002)).await?;
    browser.until("one", "document.querySelector('#new').textContent === '1 new entry'").await?;
    late.execute(change(9003)).await?;
    browser.until("two", "document.querySelector('#new').textContent === '2 new entries'").await?;
    browser.click("#new button").await?;
    browser.until("the list", &format!("{KEYS} === '9003,9002,9001'")).await?;
    browser.click("button.tail").await?;
    ensure!(browser.find("button.tail").await?.attr("aria-pressed").await?.as_deref() == Some("false"));
    browser.close().await
}

#[tokio::test]
async fn following_goes_on_after_the_connection_was_lost_and_shows_nothing_twice() -> anyhow::Result<()> {
    let mut console = Console::after(SHOP).await?;
    let server = console.url.trim_start_matches("http://").parse()?;
    let proxy = Proxy::start(server).await?;
    console.url = format!("http://{}", proxy.address());
    let mut writer = console.database.connect().await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/timeline?table=orders").await?;
    browser.click("button.tail").await?;
    browser.until("the stream", "document.body.dataset.following === 'yes'").await?;
    writer.execute(change(9001)).await?;
    browser.until("the entry", "document.querySelector('#new').textContent === '1 new entry'").await?;
    browser.click("#new button").await?;
    proxy.cut();
    writer.execute(change(9002)).await?;
    browser.until("what came meanwhile", "!document.querySelector('#new').hidden").await?;
    browser.click("#new button").await?;
    browser.until("the list", &format!("{KEYS} === '9002,9001'")).await?;
    // It complains of the connection that was lost.
    browser.leave().await
}

#[tokio::test]
async fn the_first_entry_of_an_empty_list_arrives_too() -> anyhow::Result<()> {
    let console = Console::after("").await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/timeline").await?;
    browser.find(".empty").await?;
    browser.click("button.tail").await?;
    browser.until("the stream", "document.body.dataset.following === 'yes'").await?;
    console.database.connect().await?.execute(change(9001)).await?;
    browser.until("the entry", "!document.querySelector('#new').hidden").await?;
    browser.click("#new button").await?;
    browser.until("the list", &format!("{KEYS} === '9001' && !document.querySelector('.empty')")).await?;
    browser.close().await
}

#[tokio::test]
async fn what_came_before_somebody_followed_and_while_they_did_not_arrives_too() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let mut writer = console.database.connect().await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/timeline?table=orders").await?;
    writer.execute(change(9001)).await?;
    browser.click("button.tail").await?;
    browser
        .until("what the page lacked", "document.querySelector('#new').textContent === '1 new entry'")
        .await?;
    writer.execute(change(9002)).await?;
    browser.until("the next", "document.querySelector('#new').textContent === '2 new entries'").await?;
    browser.click("button.tail").await?;
    writer.execute(change(9003)).await?;
    browser.click("button.tail").await?;
    browser
        .until("what came meanwhile", "document.querySelector('#new').textContent === '3 new entries'")
        .await?;
    browser.click("#new button").await?;
    browser.until("the list", &format!("{KEYS} === '9003,9002,9001'")).await?;
    browser.click("button.tail").await?;
    browser.close().await
}
