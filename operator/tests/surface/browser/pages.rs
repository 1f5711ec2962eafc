//! Every page, as it is drawn.

use anyhow::{Context as _, ensure};
use operator::Surface;

use super::{Browser, Console, PAGES, SHOP, Shop};
use crate::crawl;

/// What is no page: a stream, a file, what was done, and what a form is sent to.
const NO_PAGES: &[Surface] = &[
    Surface::Tail,
    Surface::Act,
    Surface::Preferences,
    Surface::SaveView,
    Surface::RenameView,
    Surface::RemoveView,
    Surface::Verify,
    Surface::QueueExport,
    Surface::CancelExport,
    Surface::ExportFile,
    Surface::ExportNow,
];

#[test]
fn every_page_is_named_among_those_that_are_looked_at() {
    for surface in Surface::ALL.into_iter().filter(|surface| !NO_PAGES.contains(surface)) {
        let is_named = PAGES.iter().any(|(_, page)| {
            let path = page.split('?').next().unwrap_or_default();
            crawl::surface(path) == Some(surface)
        });
        assert!(is_named, "{surface:?}: name a path of it in PAGES, or that it has none in NO_PAGES");
    }
}

#[tokio::test]
async fn every_page_is_drawn_without_a_complaint_of_the_browser() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let browser = Browser::open(&shop.console).await?;
    for (name, page) in PAGES {
        browser.visit(&shop.path(page).await?).await.context(*name)?;
        ensure!(!browser.text("h1").await?.is_empty(), "{name}");
        browser.until("the parts of the page", "!document.querySelector('[data-part] a')").await?;
        let complaints = browser.complaints().await?;
        ensure!(complaints.is_empty(), "{name}: {complaints:#?}");
    }
    browser.close().await
}

#[tokio::test]
async fn what_was_searched_for_is_found_and_the_way_back_leads_back() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/").await?;
    for (typed, at, heading) in [
        ("orders:4310", "/row?table=orders&key=4310", "Row"),
        ("user:mara", "/actor?actor=user%3Amara", "Actor"),
        ("cart-9d1", "/correlation?correlation=cart-9d1", "Correlation"),
        ("table:orders op:insert", "/timeline?table=orders&op=insert", "Timeline"),
    ] {
        browser.type_into("#search", &format!("{typed}\u{e007}")).await?;
        browser.arrive(at).await?;
        ensure!(browser.text("h1").await?.contains(heading), "{typed}");
        browser.client.back().await?;
        browser.arrive("/").await?;
        // A browser brings back what was typed.
        browser.find("#search").await?.clear().await?;
    }
    browser.close().await
}
