//! The timeline's doctor, on a real PostgreSQL.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod cases;
mod commands;
mod healing;
mod rights;
mod servers;

use std::process::Command;

use sandbox::{
    fixture::{TestDatabase, timeline_database, timeline_database_on},
    postgres::Postgres,
    work_dir::WorkDir,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

/// What the settings say of the healthy host.
const SETTINGS: &str = "[capture.tables.\"public.users\"]\nmask = [\"email\"]\n";

/// A host whose doctor finds nothing: a table that is captured, an audited transaction, a run of retention, an export.
const HOST: &str = "create table users (id int primary key, email text)";
const WRITTEN: &str = r#"begin;
     select threadline_begin('{"actor": {"type": "user", "id": "u1"}, "correlation_id": "c1"}');
     select threadline_record_action('user.created');
     insert into users values (1, 'a@example.org');
     commit;
     insert into threadline_retention_runs (status, started_at, completed_at, deleted_count)
     values ('completed', now() - interval '1 hour', now() - interval '1 hour', 0);
     insert into threadline_export_jobs (status, query_params, completed_at, expires_at, file_path)
     values ('completed', '{}', now(), now() + interval '1 day', '/exports/1.csv')"#;

/// A database, and what its owner's settings say.
struct Host {
    database: TestDatabase,
    connection: PgConnection,
    settings: String,
}

/// How a command ended, and what it printed.
struct Ended {
    status: Option<i32>,
    out: String,
    error: String,
}

impl Host {
    async fn healthy() -> anyhow::Result<Self> {
        Self::on(timeline_database().await?).await
    }

    /// On a server of its own, for what is the whole server's.
    async fn alone(server: &Postgres) -> anyhow::Result<Self> {
        Self::on(timeline_database_on(server, "alone").await?).await
    }

    async fn on(database: TestDatabase) -> anyhow::Result<Self> {
        let mut connection = database.connect().await?;
        connection.execute(HOST).await?;
        let host = Self { database, connection, settings: SETTINGS.to_owned() };
        host.threadline(&["gen-triggers", "--tables", "public.users", "--apply"])?;
        let Self { database, mut connection, settings } = host;
        connection.execute(WRITTEN).await?;
        Ok(Self { database, connection, settings })
    }

    /// Runs the binary on the database, with the host's settings and no others.
    fn threadline(&self, arguments: &[&str]) -> anyhow::Result<Ended> {
        self.threadline_as(&self.database.url, arguments)
    }

    fn threadline_as(&self, url: &str, arguments: &[&str]) -> anyhow::Result<Ended> {
        let folder = WorkDir::create()?;
        std::fs::write(folder.path().join("audit.toml"), &self.settings)?;
        let ran = Command::new(env!("CARGO_BIN_EXE_threadline"))
            .args(arguments)
            .current_dir(folder.path())
            .env("THREADLINE_DATABASE_URL", url)
            .env_remove("AUDIT_CONFIG")
            .output()?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ended { status: ran.status.code(), out: text(&ran.stdout), error: text(&ran.stderr) })
    }

    /// What the doctor says.
    fn doctor(&self) -> anyhow::Result<Report> {
        let ended = self.threadline(&["doctor", "--json"])?;
        anyhow::ensure!(ended.status.is_some_and(|status| status < 2), "{}", ended.error);
        Ok(Report(serde_json::from_str(&ended.out)?))
    }

    /// As a superuser, who may do all that a remedy says. One statement after another: some run in no transaction.
    async fn run(&self, sql: &str) -> anyhow::Result<()> {
        let mut superuser = self.database.superuser().await?;
        superuser
            .execute(AssertSqlSafe(sql.to_owned()))
            .await
            .map_err(|error| anyhow::anyhow!("{error}: {sql}"))?;
        Ok(())
    }

    /// Does what a remedy says, except for advice.
    async fn follow(&mut self, remedy: &Value) -> anyhow::Result<()> {
        let text = remedy["text"].as_str().unwrap_or_default();
        match remedy["kind"].as_str() {
            Some("sql") => self.run(text).await?,
            Some("setting") => self.set(text),
            Some("command") if text.starts_with("threadline ") => {
                let line = text.replace("TYPE:ID", "admin:a1").replace("TEXT", "tested");
                let words: Vec<&str> = line.split(' ').skip(1).collect();
                let ended = self.threadline(&words)?;
                anyhow::ensure!(ended.status == Some(0), "{line}: {}", ended.error);
            }
            _ => {}
        }
        Ok(())
    }

    /// Lines of a section of the settings, which keeps its other lines.
    fn set(&mut self, setting: &str) {
        let (section, added) = setting.strip_prefix("in ").and_then(|text| text.split_once("]:")).unwrap();
        let header = format!("{section}]");
        let added: Vec<&str> = added.trim().lines().collect();
        let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_owned());
        let mut lines: Vec<&str> = self.settings.lines().collect();
        let begin = lines.iter().position(|line| *line == header).unwrap_or_else(|| {
            lines.push(&header);
            lines.len() - 1
        });
        let more = lines[begin + 1..].iter().position(|line| line.starts_with('['));
        let end = more.map_or(lines.len(), |more| begin + 1 + more);
        let mut section: Vec<&str> = lines.drain(begin + 1..end).collect();
        section.retain(|line| !added.iter().any(|one| key(one) == key(line)));
        section.extend(added);
        let rest = lines.split_off(begin + 1);
        lines.extend(section.into_iter().chain(rest));
        let settings = lines.join("\n") + "\n";
        self.settings = settings;
    }
}

/// What the doctor says, as JSON.
struct Report(Value);

impl Report {
    fn item(&self, id: &str) -> &Value {
        self.0["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|item| item["id"] == id)
            .unwrap_or_else(|| panic!("no {id}"))
    }

    fn state(&self, id: &str) -> &str {
        self.item(id)["state"].as_str().unwrap_or_default()
    }

    /// Everything that is not as it should be, by id and state.
    fn wrong(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = self.0["items"].as_array().unwrap().iter();
        let found = items.filter(|item| item["state"] != "ok" && item["state"] != "not_applicable");
        found.map(|item| (text(&item["id"]), text(&item["state"]))).collect()
    }

    fn count(&self, state: &str) -> &Value {
        self.0["summary"].get(state).unwrap_or(&Value::Null)
    }
}

#[tokio::test]
async fn nothing_is_found_where_nothing_is_wrong() -> anyhow::Result<()> {
    let host = Host::healthy().await?;
    let report = host.doctor()?;
    assert_eq!(report.wrong(), [], "{}", report.0);
    assert_eq!((report.count("failed"), report.count("unknown")), (&json!(0), &json!(0)));
    Ok(())
}
