//! Pictures for the documentation: `UPDATE_SCREENSHOTS=1` renews them.

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, ensure};

use super::{Browser, Shop};

/// Pages of which there is a picture, light and dark each.
const SHOWN: &[(&str, &str)] = &[
    ("home", "/"),
    ("timeline", "/timeline?last=24h"),
    ("transaction", "/transactions/ID:transaction7"),
    ("row", "/row?table=orders&key=4310"),
];

#[tokio::test]
async fn the_documentation_has_a_picture_of_each_page_that_it_shows() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let browser = Browser::open(&shop.console).await?;
    browser.frame(1100, 660).await?;
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operator"));
    for theme in ["light", "dark"] {
        browser.colours(theme).await?;
        for (name, page) in SHOWN {
            browser.visit(&shop.path(page).await?).await?;
            browser.until("the parts of the page", "!document.querySelector('[data-part] a')").await?;
            let file = folder.join(format!("{name}-{theme}.png"));
            if env::var_os("UPDATE_SCREENSHOTS").is_some() {
                fs::create_dir_all(&folder)?;
                fs::write(&file, browser.client.screenshot().await?)?;
            }
            ensure!(fs::read(&file)?.starts_with(b"\x89PNG"), "{}", file.display());
        }
    }
    browser.close().await
}

/// `LOOK=FOLDER` leaves pictures of every page there: light and dark, on a phone and on a desk.
#[tokio::test]
#[ignore = "pictures for whoever works on the pages"]
async fn every_page_can_be_looked_at_as_a_picture() -> anyhow::Result<()> {
    let folder = PathBuf::from(env::var_os("LOOK").context("LOOK names the folder")?);
    fs::create_dir_all(&folder)?;
    let shop = Shop::open().await?;
    let browser = Browser::open(&shop.console).await?;
    for theme in ["light", "dark"] {
        browser.colours(theme).await?;
        for width in [320, 1440] {
            browser.resize(width).await?;
            for (name, page) in super::PAGES {
                browser.visit(&shop.path(page).await?).await?;
                let picture = browser.client.screenshot().await?;
                fs::write(folder.join(format!("{name}-{width}-{theme}.png")), picture)?;
            }
        }
    }
    browser.close().await
}
