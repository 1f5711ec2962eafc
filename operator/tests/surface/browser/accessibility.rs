//! What axe-core finds on the pages.

use std::{
    fs,
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context as _, ensure};

use super::{Browser, Console, PAGES, Shop};

/// Pages that say why there is none.
const FAILURES: &[(&str, &str)] = &[("not-found", "/nowhere"), ("unusable", "/timeline?tabel=orders")];

/// The script of axe-core.
fn axe() -> &'static str {
    static AXE: OnceLock<String> = OnceLock::new();
    AXE.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/axe");
        let fetched = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(
            fetched.status.success(),
            "scripts/axe fetches axe-core from the registry of npm: it needs npm, and network the first time"
        );
        fs::read_to_string(String::from_utf8(fetched.stdout).unwrap().trim()).unwrap()
    })
}

/// What is serious, as lines that say where.
const JUDGE: &str = "
    const done = arguments[0];
    axe.run(document, {resultTypes: ['violations'], preload: false}).then(found => done(
        found.violations.filter(violation => ['serious', 'critical'].includes(violation.impact)).flatMap(violation =>
            violation.nodes.slice(0, 5).map(node => `${violation.id}: ${node.target}: ${node.failureSummary}`))),
        error => done([String(error)]))";

#[tokio::test]
async fn axe_finds_a_button_without_a_name() -> anyhow::Result<()> {
    let console = Console::after("").await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/").await?;
    browser.client.execute(axe(), Vec::new()).await.context("axe-core")?;
    let spoil = "document.querySelector('main').append(document.createElement('button'))";
    browser.client.execute(spoil, Vec::new()).await?;
    let found = browser.client.execute_async(JUDGE, Vec::new()).await?;
    ensure!(found.to_string().contains("button-name"), "{found}");
    browser.close().await
}

async fn judge(theme: &str) -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let browser = Browser::open(&shop.console).await?;
    browser.colours(theme).await?;
    let mut problems = Vec::new();
    for (name, page) in PAGES.iter().chain(FAILURES) {
        browser.visit(&shop.path(page).await?).await?;
        browser.unfold().await?;
        browser.client.execute(axe(), Vec::new()).await.context("axe-core")?;
        for width in [320, 768, 1440] {
            browser.resize(width).await?;
            let found = browser.client.execute_async(JUDGE, Vec::new()).await?;
            let found = found.as_array().context("a list")?;
            problems.extend(found.iter().map(|problem| format!("{name}, {width}, {theme}: {problem}")));
        }
    }
    ensure!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    // It complains itself of the pages that are errors.
    browser.leave().await
}

#[tokio::test]
async fn axe_finds_nothing_serious_on_any_page_in_light() -> anyhow::Result<()> {
    judge("light").await
}

#[tokio::test]
async fn axe_finds_nothing_serious_on_any_page_in_dark() -> anyhow::Result<()> {
    judge("dark").await
}
