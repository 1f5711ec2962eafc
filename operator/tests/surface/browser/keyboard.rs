//! The keyboard: each key that the help names, and the switch that turns them off.

use anyhow::ensure;
use serde_json::json;

use super::{Browser, Console, SHOP};

const FOCUS: &str = "[...document.querySelectorAll('article.entry')].indexOf(document.activeElement)";

#[tokio::test]
async fn each_key_of_the_help_does_what_it_says() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/").await?;
    browser.press("?").await?;
    browser.arrive("/help").await?;
    let keys = "[...document.querySelectorAll('kbd')].map(key => key.textContent)";
    let named = json!(["/", "?", "j k", "o or Enter", "x", "[ ]", "t", "c", "g and a letter"]);
    ensure!(browser.value(keys).await? == named, "a key of the help is not tried here");

    browser.press("gt").await?;
    browser.arrive("/timeline").await?;
    browser.press("gh").await?;
    browser.arrive("/").await?;
    browser.visit("/timeline?table=orders&size=5").await?;
    browser.press("/").await?;
    browser.until("the search", "document.activeElement.id === 'search'").await?;
    // In a field, a key is a letter; Escape leaves it.
    browser.press("j?").await?;
    ensure!(browser.find("#search").await?.prop("value").await?.as_deref() == Some("j?"));
    browser.press("\u{e00c}").await?;
    browser.until("that it is left", "document.activeElement === document.body").await?;

    browser.press("jjk").await?;
    browser.until("the first entry", &format!("{FOCUS} === 0")).await?;
    browser.press("j").await?;
    browser.until("the second", &format!("{FOCUS} === 1")).await?;
    let open = "document.activeElement.querySelector('details').open";
    browser.press("x").await?;
    browser.until("all fields", open).await?;
    browser.press("x").await?;
    browser.until("that they are closed", &format!("!{open}")).await?;
    for key in ["o", "\u{e007}"] {
        let wanted = browser.value("document.activeElement.querySelector('a.open').href").await?;
        browser.press(key).await?;
        browser.until("the transaction", &format!("location.href === {wanted}")).await?;
        browser.client.back().await?;
        browser.arrive("/timeline?table=orders&size=5").await?;
        browser.press("jj").await?;
        browser.until("an entry", &format!("{FOCUS} >= 0")).await?;
    }

    let first = browser.value("document.querySelector('[data-id]').dataset.id").await?;
    browser.press("[").await?;
    browser.until("older", "location.search.includes('older=')").await?;
    browser.ready().await?;
    browser.press("]").await?;
    browser
        .until("newer", &format!("location.search.includes('newer=') && document.querySelector('[data-id]').dataset.id === {first}"))
        .await?;
    browser.ready().await?;
    browser.press("t").await?;
    browser.until("following", "document.body.dataset.following === 'yes'").await?;
    browser.press("t").await?;
    browser.until("that it ends", "document.querySelector('.tail').ariaPressed === 'false'").await?;
    browser.press("c").await?;
    browser
        .until(
            "the link",
            "/^(Copied|Press Ctrl.C to copy)$/.test(document.querySelector('#said').textContent)",
        )
        .await?;
    browser.close().await
}

#[tokio::test]
async fn keys_that_are_switched_off_do_nothing_until_they_are_switched_on() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/help").await?;
    browser.click("[data-keys]").await?;
    browser.visit("/timeline?table=orders").await?;
    browser.press("j/?gh").await?;
    ensure!(browser.value("document.activeElement === document.body").await? == true);
    ensure!(browser.client.current_url().await?.path() == "/timeline");
    browser.visit("/help").await?;
    ensure!(!browser.find("[data-keys]").await?.is_selected().await?);
    browser.click("[data-keys]").await?;
    browser.visit("/timeline?table=orders").await?;
    browser.press("j").await?;
    browser.until("the first entry", &format!("{FOCUS} === 0")).await?;
    browser.close().await
}

#[tokio::test]
async fn everything_is_reached_by_tab_and_the_focus_is_seen() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/timeline?table=orders&size=3").await?;
    browser.press("\u{e004}").await?;
    ensure!(browser.value("document.activeElement.className").await? == "skip");
    ensure!(browser.value("document.activeElement.getBoundingClientRect().left >= 0").await? == true);
    let targets = "[...document.querySelectorAll('a[href], button, input, select, summary')].filter(target => target.checkVisibility() && target.type !== 'hidden').length";
    let count = browser.value(targets).await?.as_u64().unwrap_or_default();
    ensure!(count > 20, "{count}");
    let outlined = "[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle, parseFloat(getComputedStyle(document.activeElement).outlineWidth)]";
    let mut reached = 1;
    while reached < count {
        let focus = browser.value(outlined).await?;
        ensure!(focus[0] != "BODY", "the focus is lost behind {reached} of {count}");
        ensure!(focus[1] != "none" && focus[2].as_f64() >= Some(2.0), "the focus cannot be seen: {focus}");
        browser.press("\u{e004}").await?;
        reached += 1;
    }
    browser.close().await
}
