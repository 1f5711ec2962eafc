//! What a host's recorder has of what the library does in its process.

use std::io;

use metrics_exporter_prometheus::PrometheusBuilder;
use threadline::{
    Action, ActorRef, Status,
    coverage::{self, Expectations},
    export::{Destination, Format, Options, Profile, Request, export},
    query::{Filter, From, Scope, row::RowPage},
    retention::{Keep, Policy, PurgeOptions},
    telemetry::{self, names},
};

use super::{host, insert};

#[tokio::test]
async fn figures_begin_at_zero_and_count_what_was_committed_and_deleted() -> anyhow::Result<()> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    telemetry::begin();
    let shown = handle.render();
    for metric in names::HOST.iter().filter(|metric| metric.name.ends_with("_total")) {
        let mut lines = shown.lines().filter(|line| line.starts_with(metric.name)).peekable();
        assert!(lines.peek().is_some() && lines.all(|line| line.ends_with(" 0")), "{}: {shown}", metric.name);
        assert!(shown.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{}", metric.name);
    }
    let mut host = host().await?;
    let actor = ActorRef::anonymous;
    host.timeline.record(Action::new("a.b", actor()).status(Status::Error)).await?;
    for id in ["1", "2"] {
        let transaction = host.timeline.transaction(actor()).action(Action::new("a.c", actor()));
        transaction.run(async |connection| insert(connection, id, 1, "t").await).await?;
    }
    let nothing = host.timeline.transaction(actor());
    nothing.run(async |_| Ok::<_, sqlx::Error>(())).await?;
    // Nobody knows whether it is committed.
    let mut transaction = host.timeline.pool().begin().await?;
    Action::new("a.d", actor()).record(&mut transaction, host.timeline.schema()).await?;
    transaction.rollback().await?;
    let refused = host.timeline.transaction(actor()).action(Action::new("a.e", actor()));
    refused.run(async |connection| insert(connection, "1", 1, "t").await).await.unwrap_err();
    coverage::read(&mut host.connection, host.timeline.schema(), None, &Expectations::default()).await?;
    let reader = host.timeline.reader(Scope::everything());
    sqlx::query("update posts set title = 'u' where id = '1'").execute(&mut host.connection).await?;
    let row = reader.row(&"public.posts".parse()?, &"1".parse()?).await?;
    let newest = reader.row_history(&row, &RowPage { size: 1, ..RowPage::default() }).await?;
    let rest = RowPage { size: 1, from: From::OlderThan(newest.older.unwrap()), ..RowPage::default() };
    assert_eq!(reader.row_history(&row, &rest).await?.changes.len(), 1);
    let request = || Request {
        is_recorded: false,
        ..Request::new(
            Filter::default(),
            Options { profile: Profile::Full, format: Format::Ndjson, ..Options::default() },
        )
    };
    let whole = Destination::Stream { out: Box::new(io::sink()), manifest: None };
    let rows = export(&reader, request(), whole).await?.manifest.rows.total();
    let folder = sandbox::work_dir::WorkDir::create()?;
    export(&reader, request(), Destination::file(folder.path())).await.unwrap_err();
    host.record_old(1, "x").await?;
    host.record_old(2, "y").await?;
    let policy = Policy::new(Keep::days(10)?)?;
    let mut options = PurgeOptions::default();
    options.dry_run = true;
    host.timeline.purge(&policy, &options).await?;
    (options.dry_run, options.batch_size) = (false, 1);
    host.timeline.purge(&policy, &options).await?;
    let shown = handle.render();
    let rows = format!("threadline_exported_rows_total{{format=\"ndjson\"}} {rows}");
    for line in [
        "threadline_actions_recorded_total{status=\"ok\"} 2",
        "threadline_actions_recorded_total{status=\"error\"} 1",
        "threadline_transactions_committed_total{captured=\"true\"} 2",
        "threadline_transactions_committed_total{captured=\"false\"} 1",
        "threadline_health_checks_total{result=\"completed\"} 1",
        "threadline_tables{state=\"covered\"} 1",
        "threadline_tables{state=\"uncovered\"} 1",
        "threadline_row_histories_truncated_total 1",
        "threadline_exports_total{format=\"ndjson\",result=\"completed\"} 1",
        "threadline_exports_total{format=\"ndjson\",result=\"failed\"} 1",
        "threadline_exports_total{format=\"csv\",result=\"failed\"} 0",
        &rows,
        "threadline_export_seconds_count{format=\"ndjson\"} 2",
        "threadline_purges_total{result=\"completed\"} 1",
        "threadline_purges_total{result=\"skipped\"} 0",
        "threadline_purged_changes_total 2",
        "threadline_purged_transactions_total 2",
        "threadline_purge_batch_seconds_count 2",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in:\n{shown}");
    }
    Ok(())
}
