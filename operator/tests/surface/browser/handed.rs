//! An export, from its form to the file that a browser has saved.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use sandbox::{process, wait};
use serde_json::json;

use super::{Browser, Console, DEADLINE, SHOP};

impl Browser {
    /// Saves downloads into a folder.
    async fn save_into(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        let parameters = json!({"behavior": "allow", "downloadPath": folder});
        self.devtools("Page.setDownloadBehavior", parameters).await?;
        Ok(())
    }
}

/// The only file in a folder whose name ends like this, once it is whole.
async fn saved(folder: &Path, end: &str) -> anyhow::Result<PathBuf> {
    wait::until_some(end, DEADLINE, async || {
        let files = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        let is_named = |path: &&PathBuf| path.to_string_lossy().ends_with(end);
        Ok(files.iter().find(is_named).cloned())
    })
    .await
}

/// What the command has written.
fn command(console: &Console, arguments: &[&str], file: &Path) -> anyhow::Result<Vec<u8>> {
    let environment = [("THREADLINE_DATABASE_URL", console.database.url.as_str())];
    let arguments = [arguments, &["--output", file.to_str().context("a path")?]].concat();
    let (status, said) = process::run("threadline", &arguments, &environment, console.folder.path())?;
    ensure!(status.success(), "{arguments:?}: {said}");
    Ok(fs::read(file)?)
}

#[tokio::test]
async fn a_file_that_a_browser_has_saved_is_byte_by_byte_that_of_the_command() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    let folder = console.folder.path().join("saved");
    browser.save_into(&folder).await?;
    // The command leaves its manifests in another one.
    let by_command = console.folder.path().join("by-command");
    fs::create_dir(&by_command)?;

    // At once.
    browser.visit("/exports?table=orders").await?;
    ensure!(browser.find("#export-filter").await?.prop("value").await?.as_deref() == Some("table:orders"));
    browser.click("button[formaction$='exports/now']").await?;
    let file = saved(&folder, ".csv").await?;
    let run = command(&console, &["export", "run", "table:orders"], &by_command.join("run"))?;
    ensure!(run.len() > 10_000 && fs::read(&file)? == run, "{} differs from the command's", file.display());
    fs::remove_file(&file)?;

    // In the background, with everything.
    browser.visit("/exports?table=orders").await?;
    browser.find("#as").await?.select_by_value("ndjson").await?;
    browser.find("#profile").await?.select_by_value("full").await?;
    browser.click("form.export button:not([formaction])").await?;
    browser
        .until("the job", "document.querySelector('.job .status')?.textContent === 'waits for a worker'")
        .await?;
    let id = browser.find(".job").await?.attr("id").await?.context("a job has an id")?;
    console.work().await?;
    browser.visit("/exports").await?;
    ensure!(browser.text(".job .status").await? == "ready to hand over");
    browser.click(".job a[download]").await?;
    let file = saved(&folder, ".ndjson").await?;
    let fetched = command(&console, &["export", "jobs", "fetch", &id], &by_command.join("fetched"))?;
    ensure!(fs::read(&file)? == fetched, "{} differs from the command's", file.display());
    browser.click(".job a[href*='part=manifest']").await?;
    let manifest = saved(&folder, ".manifest.json").await?;
    ensure!(fs::read(manifest)? == fs::read(by_command.join("fetched.manifest.json"))?);
    browser.close().await
}
