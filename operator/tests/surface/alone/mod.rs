//! `threadline-serve`: the surface as a service of its own.

mod commands;
mod hosts;
mod open;
mod proxied;
mod signed;
mod tokens;

use std::time::Duration;

use reqwest::{Client, Response, StatusCode, redirect::Policy};
use sandbox::{
    fixture::{TestDatabase, shared, timeline_database},
    process::Process,
    rights::as_role,
    wait,
};
use sqlx::Executor as _;
use uuid::Uuid;

use super::DEADLINE;

/// A process that serves, and the timeline below it.
pub(super) struct Alone {
    pub(super) process: Process,
    pub(super) database: TestDatabase,
    pub(super) client: Client,
    /// Where its pages are, with a slash at the end.
    pub(super) url: String,
    /// Where `/readyz` and `/metrics` are.
    pub(super) operations: String,
}

impl Alone {
    /// With these lines of `[operator]` and of the sections below it, over an empty timeline. `WRITER_URL` in them is that of who may write.
    pub(super) async fn start(keys: &str) -> anyhow::Result<Self> {
        Self::over("", keys).await
    }

    /// Over what `sql` writes.
    pub(super) async fn over(sql: &'static str, keys: &str) -> anyhow::Result<Self> {
        let database = timeline_database().await?;
        database.connect().await?.execute(sql).await?;
        let name = format!("serve-{}", Uuid::new_v4());
        let settings = shared().work_dir.path().join(format!("{name}.toml"));
        let keys = keys.replace("WRITER_URL", &as_role(&database.url, "audit_surface"));
        let text = format!("[operator]\nmetrics_listen = \"127.0.0.1:0\"\n{keys}");
        std::fs::write(&settings, text)?;
        let arguments = ["--config", settings.to_str().unwrap()];
        let environment = [("THREADLINE_DATABASE_URL", database.url.as_str())];
        let process =
            Process::start(&shared().work_dir, &name, "threadline-serve", &arguments, &environment)?;
        let url = logged(&process, "the operator surface is there", "place").await?;
        let operations =
            logged(&process, "operational endpoint: /healthz, /readyz, /metrics", "address").await?;
        // Whatever was installed first is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().redirect(Policy::none()).timeout(DEADLINE).build()?;
        Ok(Self { process, database, client, url, operations: format!("http://{operations}") })
    }

    pub(super) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Response> {
        let request = self.client.get(format!("{}{path}", self.url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Ok(request.send().await?)
    }

    /// What one of the operational paths answers.
    pub(super) async fn operational(&self, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let response = self.client.get(format!("{}{path}", self.operations)).send().await?;
        Ok((response.status(), response.text().await?))
    }

    /// Waits until the operational path answers with this.
    pub(super) async fn await_operational(&self, path: &str, what: &str) -> anyhow::Result<()> {
        wait::until_some(what, DEADLINE, async || {
            let (_, text) = self.operational(path).await?;
            Ok(text.contains(what).then_some(()))
        })
        .await
    }
}

/// The field of the line of a log that says this.
async fn logged(process: &Process, message: &str, field: &str) -> anyhow::Result<String> {
    wait::until_some(message, Duration::from_secs(30), async || {
        let log = process.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let found = lines
            .filter(|line| line["message"] == message)
            .find_map(|line| line[field].as_str().map(str::to_owned));
        anyhow::ensure!(found.is_some() || !log.contains("\"exit_status\""), "{log}");
        Ok(found)
    })
    .await
}
