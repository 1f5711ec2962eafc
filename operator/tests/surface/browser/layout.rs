//! How pages fit: on a phone, and under a finger.

use anyhow::ensure;
use fantoccini::key::Key;

use super::{Browser, Console, PAGES, Shop};

/// What reaches beyond the right edge.
const WIDE: &str = "document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] :
    [...document.querySelectorAll('main *, header *, footer *')].filter(element => element.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .slice(0, 5).map(element => `${element.tagName}.${element.className}: ${element.textContent.slice(0, 40)}`)";

/// Targets that are smaller than 24 pixels: links within a sentence may be.
const SMALL: &str = "[...document.querySelectorAll('a[href], button, input, select, summary')].filter(target => {
        if (!target.offsetParent || target.type === 'hidden' || target.matches('.skip') || target.closest('label')) return false;
        const {width, height} = target.getBoundingClientRect();
        const isInSentence = target.matches('a') && [...target.parentElement.childNodes].some(node => node.nodeType === 3 && node.textContent.trim().length > 1);
        return !isInSentence && (width < 24 || height < 23.9);
    }).slice(0, 8).map(target => `${target.outerHTML.slice(0, 120)}: ${target.getBoundingClientRect().width} x ${target.getBoundingClientRect().height}`)";

#[tokio::test]
async fn no_page_scrolls_sideways_on_a_phone_and_every_target_is_large_enough() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let browser = Browser::open(&shop.console).await?;
    let mut problems = Vec::new();
    for density in ["roomy", "dense"] {
        browser.visit("/").await?;
        browser.find("#density").await?.select_by_value(density).await?;
        browser.find("#density").await?.send_keys(&Key::Tab.to_string()).await?;
        browser.click(".preferences button").await?;
        browser.find(&format!("html[data-density={density}]")).await?;
        for (name, page) in PAGES {
            browser.visit(&shop.path(page).await?).await?;
            browser.unfold().await?;
            for width in [320, 1440] {
                browser.resize(width).await?;
                for (what, script) in [("too wide", WIDE), ("too small", SMALL)] {
                    let found = browser.value(script).await?;
                    if found != serde_json::json!([]) {
                        problems.push(format!("{name}, {density}, {width}: {what}: {found:#}"));
                    }
                }
            }
        }
    }
    ensure!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    browser.close().await
}

#[tokio::test]
async fn what_is_too_wide_or_too_small_is_found() -> anyhow::Result<()> {
    let console = Console::after("").await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/").await?;
    browser.resize(320).await?;
    let spoil = "const link = document.createElement('a'); link.href = './'; link.textContent = 'x'.repeat(80);
        link.setAttribute('class', 'visible'); document.querySelector('main').append(document.createElement('br'), link);
        link.attributeStyleMap.set('overflow-wrap', 'normal'); document.querySelector('main').append(document.createElement('select'));
        document.querySelector('main select').attributeStyleMap.set('min-height', '0px'); document.querySelector('main select').attributeStyleMap.set('height', '10px')";
    browser.client.execute(spoil, Vec::new()).await?;
    ensure!(browser.value(WIDE).await?.to_string().contains("A."));
    ensure!(browser.value(SMALL).await?.to_string().contains("<select"));
    browser.close().await
}
