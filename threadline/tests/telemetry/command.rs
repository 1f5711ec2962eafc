//! `threadline metrics`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use sandbox::{fixture::empty_database, rights::as_role, work_dir::WorkDir};
use serde_json::Value;
use sqlx::Executor as _;
use threadline::{
    Action, ActorRef, receipts,
    retention::{Keep, Policy, PurgeOptions},
    telemetry::names,
};

use super::{Host, host, insert};

/// How the command ended, and what it printed.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    out: String,
    error: String,
}

/// Under a mask that lets nobody else read.
fn threadline(url: &str, folder: &Path, arguments: &[&str]) -> anyhow::Result<Ended> {
    let ran = Command::new("/bin/sh")
        .args(["-c", "umask 077; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_threadline")])
        .args(arguments)
        .current_dir(folder)
        .env("THREADLINE_DATABASE_URL", url)
        .env_remove("AUDIT_CONFIG")
        .output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { status: ran.status.code(), out: text(&ran.stdout), error: text(&ran.stderr) })
}

/// Each sample, by its name and its labels in their order.
#[derive(Debug)]
struct Samples(BTreeMap<(String, Vec<(String, String)>), f64>);

impl Samples {
    /// Reads the exposition, and nothing that is none.
    fn read(text: &str) -> Self {
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels =
                labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).map(|label| {
                    let (label, value) = label.split_once('=').unwrap();
                    (label.to_owned(), value.trim_matches('"').to_owned())
                });
            let key = (name.to_owned(), labels.collect());
            assert_eq!(samples.insert(key, value.parse().unwrap()), None, "{line} is there twice");
        }
        Self(samples)
    }

    fn of(host: &Host, role: &str) -> anyhow::Result<Self> {
        let folder = WorkDir::create()?;
        let ended = threadline(&as_role(&host.database.url, role), folder.path(), &["metrics"])?;
        anyhow::ensure!(ended.status == Some(0), "{ended:?}");
        Ok(Self::read(&ended.out))
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        self.0.get(&(name.to_owned(), labels)).copied()
    }

    fn check(&self, id: &str) -> Vec<&str> {
        let is = |state: &&&str| {
            self.value(names::CHECK_STANDS, &[("check", id), ("state", **state)]) == Some(1.0)
        };
        names::CHECK_STATES.iter().filter(is).copied().collect()
    }

    /// Figures of the page of which there is no sample.
    fn absent(&self) -> Vec<&'static str> {
        let there: BTreeSet<&str> = self.0.keys().map(|(name, _)| name.as_str()).collect();
        names::STATE.iter().map(|metric| metric.name).filter(|name| !there.contains(name)).collect()
    }
}

/// One of everything that is shown.
async fn full() -> anyhow::Result<Host> {
    let mut host = host().await?;
    let actor = ActorRef::anonymous();
    let transaction = host.timeline.transaction(actor.clone()).action(Action::new("a.b", actor));
    transaction.run(async |connection| insert(connection, "k1", 1, "t1").await).await?;
    host.record_old(1, "x").await?;
    host.timeline.purge(&Policy::new(Keep::days(10)?)?, &PurgeOptions::default()).await?;
    receipts::seal(&host.timeline, None, |_| {}).await?;
    host.connection
        .execute(
            "insert into threadline_export_jobs (status, query_params) values ('completed', '{}'), ('completed', '{}'), ('''x', '{}');
             analyze audit_changes, audit_transactions, audit_actions",
        )
        .await?;
    Ok(host)
}

#[tokio::test]
async fn a_reader_sees_every_figure_of_the_page_and_nothing_else() -> anyhow::Result<()> {
    let mut host = full().await?;
    let samples = Samples::of(&host, "audit_reader")?;
    assert_eq!(samples.absent(), Vec::<&str>::new());
    let checks: BTreeSet<&str> = threadline::doctor::checks().map(|(_, id, _)| id).collect();
    for (name, labels) in samples.0.keys() {
        let metric = names::STATE.iter().find(|metric| metric.name == name).unwrap();
        let known: Vec<&str> = metric.labels.iter().map(|(label, _)| *label).collect();
        assert_eq!(labels.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>(), known, "{name}");
        for ((label, value), (_, values)) in labels.iter().zip(metric.labels) {
            let is_known = match label.as_str() {
                "check" => checks.contains(value.as_str()),
                "table" => value.starts_with("audit_") || value.starts_with("threadline_"),
                _ => values.contains(&value.as_str()),
            };
            assert!(is_known, "{name}: {label}={value}");
        }
    }
    let shown = |name, labels: &[(&str, &str)]| samples.value(name, labels);
    assert_eq!(shown(names::TABLES, &[("state", "covered")]), Some(1.0));
    assert_eq!(shown(names::TABLES, &[("state", "uncovered")]), Some(1.0));
    assert_eq!(shown(names::FINDINGS, &[("severity", "error")]), Some(0.0));
    let rows = |table| shown(names::ROWS_ESTIMATE, &[("table", table)]);
    assert_eq!((rows("audit_changes"), rows("threadline_leases")), (Some(1.0), None), "vacuum was not there");
    assert!(shown(names::TABLE_BYTES, &[("table", "audit_changes")]) >= Some(8192.0));
    assert_eq!(shown(names::RETENTION_OPEN, &[]), Some(0.0));
    let jobs = |status| shown(names::EXPORT_JOBS, &[("status", status)]);
    assert_eq!((jobs("completed"), jobs("failed"), jobs("other")), (Some(2.0), Some(0.0), Some(1.0)));
    let version: i64 = sqlx::query_scalar("select max(version) from threadline_migrations")
        .fetch_one(&mut host.connection)
        .await?;
    assert_eq!(shown(names::SCHEMA_VERSION, &[]).map(|shown| format!("{shown}")), Some(version.to_string()));
    let now: f64 = sqlx::query_scalar("select extract(epoch from now())::float8")
        .fetch_one(&mut host.connection)
        .await?;
    for time in [
        names::NEWEST_CHANGE,
        names::OLDEST_CHANGE,
        names::RETENTION_COMPLETED,
        names::SEALED_UNTIL,
        names::COLLECTED,
    ] {
        assert!(
            shown(time, &[]).is_some_and(|shown| (now - shown).abs() < 600.0),
            "{time}: {:?}",
            shown(time, &[])
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_page_says_which_checks_the_role_for_it_cannot_make() -> anyhow::Result<()> {
    let host = full().await?;
    let samples = Samples::of(&host, "audit_reader")?;
    let ids = threadline::doctor::checks().map(|(_, id, _)| id);
    let unknown: Vec<String> =
        ids.filter(|id| samples.check(id) == ["unknown"]).map(|id| format!("`{id}`")).collect();
    let said = format!("To `audit_reader` these are unknown: {}.", unknown.join(", "));
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md"))?;
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(&said), "docs/metrics.md should say: {said}");
    Ok(())
}

#[tokio::test]
async fn each_check_is_in_the_state_that_the_doctor_says() -> anyhow::Result<()> {
    let mut host = full().await?;
    host.connection.execute("alter table audit_transactions disable trigger user").await?;
    let samples = Samples::of(&host, "owner")?;
    let folder = WorkDir::create()?;
    let report: Value =
        serde_json::from_str(&threadline(&host.database.url, folder.path(), &["doctor", "--json"])?.out)?;
    let items = report["items"].as_array().unwrap();
    assert_eq!(items.len(), threadline::doctor::checks().count());
    for item in items {
        assert_eq!(samples.check(item["id"].as_str().unwrap()), [item["state"].as_str().unwrap()], "{item}");
    }
    assert_eq!(samples.check("capture.own_triggers"), ["failed"]);
    Ok(())
}

#[tokio::test]
async fn what_a_role_may_not_see_is_left_out_and_its_check_is_unknown() -> anyhow::Result<()> {
    let host = full().await?;
    let samples = Samples::of(&host, "audit_projector")?;
    assert_eq!(
        samples.absent(),
        [
            names::TABLES,
            names::FINDINGS,
            names::NEWEST_CHANGE,
            names::OLDEST_CHANGE,
            names::RETENTION_COMPLETED,
            names::RETENTION_OPEN,
            names::SEALED_UNTIL,
            names::EXPORT_JOBS
        ]
    );
    assert_eq!(samples.check("capture.triggers"), ["unknown"]);
    assert_eq!(samples.check("retention.runs"), ["unknown"]);
    Ok(())
}

#[tokio::test]
async fn a_table_that_somebody_has_locked_holds_up_its_own_figures_alone() -> anyhow::Result<()> {
    let host = full().await?;
    let mut other = host.database.connect().await?;
    other.execute("begin; lock table threadline_retention_runs in access exclusive mode").await?;
    let samples = Samples::of(&host, "owner")?;
    // The sizes of all tables are one statement.
    assert_eq!(samples.absent(), [names::TABLE_BYTES, names::RETENTION_COMPLETED, names::RETENTION_OPEN]);
    assert_eq!(samples.check("retention.runs"), ["unknown"]);
    assert_eq!(samples.check("capture.triggers"), ["ok"]);
    Ok(())
}

#[tokio::test]
async fn without_a_timeline_the_check_of_its_schema_has_failed() -> anyhow::Result<()> {
    let database = empty_database().await?;
    let folder = WorkDir::create()?;
    let ended = threadline(&database.url, folder.path(), &["metrics"])?;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let samples = Samples::read(&ended.out);
    assert_eq!(samples.check("capture.schema"), ["failed"]);
    assert_eq!(samples.check("capture.migrations"), ["unknown"]);
    assert!(samples.value(names::COLLECTED, &[]).is_some());
    Ok(())
}

#[tokio::test]
async fn a_file_is_replaced_as_a_whole_for_everybody_to_read() -> anyhow::Result<()> {
    let host = host().await?;
    let folder = WorkDir::create()?;
    let path = folder.path().join("threadline.prom");
    fs::write(&path, "of before")?;
    let ended = threadline(&host.database.url, folder.path(), &["metrics", "--output", "threadline.prom"])?;
    assert_eq!((ended.status, ended.out.as_str(), ended.error.as_str()), (Some(0), "", ""));
    let samples = Samples::read(&fs::read_to_string(&path)?);
    assert!(samples.value(names::COLLECTED, &[]).is_some());
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o644);
    let files: Vec<_> = fs::read_dir(folder.path())?.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["threadline.prom"]);
    Ok(())
}

#[tokio::test]
async fn where_nothing_can_be_read_or_written_the_old_file_stays_and_the_cause_is_said() -> anyhow::Result<()>
{
    let host = host().await?;
    let folder = WorkDir::create()?;
    let path = folder.path().join("threadline.prom");
    fs::write(&path, "of before")?;
    let away = "postgres://owner@127.0.0.1:1/nothing";
    let ended = threadline(away, folder.path(), &["metrics", "--output", "threadline.prom"])?;
    assert_eq!((ended.status, fs::read_to_string(&path)?.as_str()), (Some(1), "of before"));
    assert!(ended.error.contains("cannot connect to the timeline database"), "{ended:?}");
    let ended =
        threadline(&host.database.url, folder.path(), &["metrics", "--output", "nowhere/threadline.prom"])?;
    assert_eq!(ended.status, Some(1));
    let cause = "file_unwritten: nowhere/threadline.prom was not written: No such file or directory";
    assert!(ended.error.contains(cause) && ended.error.contains("name a file in a folder"), "{ended:?}");
    // A folder cannot be replaced by a file; what was written beside it is gone.
    fs::create_dir(folder.path().join("taken"))?;
    let ended = threadline(&host.database.url, folder.path(), &["metrics", "-o", "taken"])?;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let mut files: Vec<_> = fs::read_dir(folder.path())?.map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["taken", "threadline.prom"]);
    let ended = threadline(&host.database.url, folder.path(), &["metrics", "--schema", "a b"])?;
    assert_eq!(ended.status, Some(2));
    Ok(())
}
