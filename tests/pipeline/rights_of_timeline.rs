//! The rights of `deploy/postgres/timeline.sql`: that they are enough for each role's work, and least.

use end_to_end::Pipeline;
use sandbox::{rights::as_role, work_dir::WorkDir};
use sqlx::Executor as _;
use threadline::{
    ActorRef, ActorType, StorageSchema, Timeline,
    coverage::Expectations,
    export::{Destination, Options, Profile, Request, export},
    gauges,
    query::{
        Count, Filter, PageRequest, Scope,
        row::{At, RowPage},
    },
    retention::{self, Archive, Keep, Policy, PurgeOptions, Purgeable},
    telemetry::names,
    views,
};

use super::rights::refuses;

#[tokio::test]
async fn the_projector_writes_actions_and_can_neither_change_nor_remove_one() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let statements = [
        "delete from audit_actions",
        "update audit_actions set name = 'another'",
        "truncate audit_actions",
        "select name from audit_actions",
        "select actor_ref from audit_actions",
        "insert into audit_transactions (txid) values (1)",
        "select id from audit_changes",
        "alter table audit_actions drop column reason",
        "create table more (id int)",
    ];
    refuses(&pipeline.timeline.url, "audit_projector", &statements).await
}

#[tokio::test]
async fn the_reader_reads_the_whole_timeline_and_changes_nothing() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut owner = pipeline.timeline.connect().await?;
    owner
        .execute(
            "insert into audit_transactions (id, txid) values ('b0000000-0000-4000-8000-000000000001', 1);
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
             values ('b0000000-0000-4000-8000-000000000001', 'public', 't', '{\"id\": \"1\"}', 'insert', '{\"id\": 1}')",
        )
        .await?;
    let pool = sqlx::PgPool::connect(&as_role(&pipeline.timeline.url, "audit_reader")).await?;
    let timeline = Timeline::new(pool, StorageSchema::default());
    assert!(timeline.evidence().list_overview(None).await?.records.is_empty());
    let reader = timeline.reader(Scope::everything());
    let everything = Filter::default();
    assert_eq!(reader.page(&everything, &PageRequest::default()).await?.entries.len(), 1);
    assert_eq!(reader.count(&everything).await?, Count::Exactly(1));
    let row = reader.row(&"public.t".parse()?, &"1".parse()?).await?;
    assert_eq!(reader.row_history(&row, &RowPage::default()).await?.changes.len(), 1);
    assert!(reader.as_of(&row, &At::latest()).await?.image().is_some());
    let mut connection = timeline.pool().acquire().await?;
    let gauges = gauges::read(&mut connection, timeline.schema(), &Expectations::default()).await?;
    for metric in [names::TABLES, names::NEWEST_CHANGE, names::RETENTION_OPEN, names::EXPORT_JOBS] {
        assert!(gauges.samples.iter().any(|sample| sample.name == metric), "{metric}");
    }
    let mut tail = reader.tail(&everything).await?;
    owner.execute("insert into audit_actions (name, actor_ref, status) values ('a.b', '{}', 'ok')").await?;
    assert_eq!(tail.poll().await?.entries.len(), 1);
    let statements = [
        "delete from audit_changes",
        "update audit_changes set op = 'delete'",
        "update audit_transactions set actor_ref = null",
        "insert into audit_actions (name, actor_ref, status) values ('a.b', '{}', 'ok')",
        "truncate audit_transactions, audit_changes",
        "update threadline_retention_runs set status = 'completed'",
        "insert into threadline_evidence_records (subject, subject_ref, summary_status, recorded_at) values ('retention_run', '{}', 'ok', now())",
        "select * from threadline_hash_keys",
        "select * from audit_receipts",
        "select query_params from threadline_export_jobs",
        "select actor_ref, file_path from threadline_export_jobs",
        "create table more (id int)",
    ];
    refuses(&pipeline.timeline.url, "audit_reader", &statements).await
}

#[tokio::test]
async fn the_maintainer_purges_and_can_neither_read_nor_forge_what_it_deletes() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut owner = pipeline.timeline.connect().await?;
    owner.execute(OLD).await?;
    let pool = sqlx::PgPool::connect(&as_role(&pipeline.timeline.url, "audit_maintainer")).await?;
    let timeline = Timeline::new(pool, StorageSchema::default());
    let policy = Policy::new(Keep::days(10)?)?.actions(Keep::days(10)?);
    let mut dry_run = PurgeOptions::default();
    dry_run.dry_run = true;
    for options in [dry_run, PurgeOptions::default()] {
        let purged = timeline.purge(&policy, &options).await?;
        let deleted = (purged.deleted_changes, purged.deleted_transactions, purged.deleted_actions);
        assert_eq!(deleted, (1, 2, 1), "{purged:?}");
    }
    let mut connection = timeline.pool().acquire().await?;
    assert_eq!(retention::runs(&mut connection, timeline.schema(), 5).await?.len(), 1);
    // A reader says who purged.
    let pool = sqlx::PgPool::connect(&as_role(&pipeline.timeline.url, "audit_reader")).await?;
    let reader = Timeline::new(pool, StorageSchema::default()).reader(Scope::everything());
    assert!(retention::horizon(&reader, Purgeable::Changes).await?.is_some());
    let statements = [
        "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op) values (gen_random_uuid(), 'a', 'b', '{}', 'delete')",
        "select data_after from audit_changes",
        "select table_pk from audit_changes",
        "update audit_changes set captured_at = now()",
        "update audit_changes set op = 'delete'",
        "insert into audit_transactions (txid) values (7)",
        "select actor_ref from audit_transactions",
        "update audit_transactions set occurred_at = now()",
        "update audit_transactions set actor_ref = null",
        "select actor_ref from audit_actions",
        "update audit_actions set name = 'another'",
        "insert into audit_actions (id, name, actor_ref, status, inserted_at) values (gen_random_uuid(), 'a', '{}', 'ok', now())",
        "truncate audit_changes",
        "delete from threadline_retention_runs",
        "update threadline_evidence_records set detail = '{}'",
        "delete from threadline_evidence_records",
        "select * from threadline_hash_keys",
        "select * from audit_receipts",
        "delete from audit_receipts",
        "create table more (id int)",
    ];
    refuses(&pipeline.timeline.url, "audit_maintainer", &statements).await
}

/// What is old enough: a change with its captured transaction, one without, and an action.
const OLD: &str = "
    insert into audit_actions (id, name, actor_ref, status, inserted_at) values
        ('a0000000-0000-4000-8000-000000000001', 'a.b', '{}', 'ok', now() - interval '20 days');
    insert into audit_transactions (id, txid, occurred_at, action_id) values
        ('b0000000-0000-4000-8000-000000000001', 1, now() - interval '20 days', 'a0000000-0000-4000-8000-000000000001'),
        ('b0000000-0000-4000-8000-000000000002', 2, now() - interval '20 days', null);
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    values ('b0000000-0000-4000-8000-000000000001', 'public', 't', '{\"id\": \"1\"}', 'insert', '{\"id\": 1}', now() - interval '20 days')";

#[tokio::test]
async fn the_archivist_archives_what_it_deletes_and_can_forge_nothing_and_the_maintainer_cannot_archive()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let url = &pipeline.timeline.url;
    let mut owner = pipeline.timeline.connect().await?;
    owner.execute(OLD).await?;
    let work_dir = WorkDir::create()?;
    let policy = Policy::new(Keep::days(10)?)?.actions(Keep::days(10)?);
    let mut options = PurgeOptions::default();
    options.archive = Some(Archive::new(work_dir.path()));
    let timeline = async |role| {
        anyhow::Ok(Timeline::new(sqlx::PgPool::connect(&as_role(url, role)).await?, StorageSchema::default()))
    };
    // Who may not read values deletes none that would have to be archived, and hears who may.
    let refused = timeline("audit_maintainer").await?.purge(&policy, &options).await.unwrap_err();
    assert_eq!(refused.term(), Some("archive_failed"));
    assert!(refused.to_string().contains("audit_archivist"), "{refused}");
    let archivist = timeline("audit_archivist").await?;
    let mut dry_run = options.clone();
    dry_run.dry_run = true;
    for options in [dry_run, options] {
        let purged = archivist.purge(&policy, &options).await?;
        let deleted = (purged.deleted_changes, purged.deleted_transactions, purged.deleted_actions);
        assert_eq!(deleted, (1, 2, 1), "{purged:?}");
    }
    for role in ["audit_archivist", "audit_maintainer", "audit_reader"] {
        let mut connection = timeline(role).await?.pool().acquire().await?;
        let archives = retention::archives(&mut connection, archivist.schema(), None).await?;
        assert_eq!(archives.iter().map(|archive| archive.rows).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(archives.iter().all(|archive| retention::verify(archive).is_ok()));
        let runs = retention::runs(&mut connection, archivist.schema(), 5).await?;
        assert_eq!(runs[0].archived.as_ref().map(|archived| archived.files), Some(3));
    }
    let archived = async |role| {
        let reader = timeline(role).await?.reader(Scope::everything());
        let horizon = retention::horizon(&reader, Purgeable::Changes).await?;
        anyhow::Ok(horizon.is_some_and(|horizon| horizon.archived.is_some()))
    };
    assert!(archived("audit_reader").await?);
    // One who reads with rights of a version before archives reads as before.
    owner.execute("revoke all on threadline_archives from audit_reader").await?;
    assert!(!archived("audit_reader").await?);
    let statements = [
        "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op) values (gen_random_uuid(), 'a', 'b', '{}', 'delete')",
        "update audit_changes set data_after = null",
        "update audit_changes set captured_at = now()",
        "insert into audit_transactions (txid) values (7)",
        "update audit_transactions set actor_ref = null",
        "update audit_actions set name = 'another'",
        "insert into audit_actions (id, name, actor_ref, status, inserted_at) values (gen_random_uuid(), 'a', '{}', 'ok', now())",
        "truncate audit_changes",
        "delete from threadline_retention_runs",
        "delete from threadline_archives",
        "update threadline_archives set sha256 = ''",
        "update threadline_archives set location = ''",
        "update threadline_evidence_records set detail = '{}'",
        "select * from threadline_evidence_records",
        "select * from threadline_capture_policies",
        "select * from threadline_hash_keys",
        "select * from audit_receipts",
        "create table more (id int)",
    ];
    refuses(url, "audit_archivist", &statements).await?;
    let statements = [
        "insert into threadline_archives select * from threadline_archives",
        "delete from threadline_archives",
    ];
    refuses(url, "audit_maintainer", &statements).await
}

#[tokio::test]
async fn the_exporter_reads_the_whole_timeline_and_adds_records_of_exports_alone() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let url = &pipeline.timeline.url;
    let pool = sqlx::PgPool::connect(&as_role(url, "audit_exporter")).await?;
    let timeline = Timeline::new(pool, StorageSchema::default());
    let reader = timeline.reader(Scope::everything());
    for rows in [0, 1] {
        let request =
            Request::new(Filter::default(), Options { profile: Profile::Full, ..Options::default() });
        let nowhere = Destination::Stream { out: Box::new(std::io::sink()), manifest: None };
        let exported = export(&reader, request, nowhere).await?;
        assert_eq!(exported.manifest.rows.action, rows, "an export is an action of the next one");
    }
    let mut owner = pipeline.timeline.connect().await?;
    let recorded =
        "select actor_ref from threadline_evidence_records where subject = 'export_delivery' limit 1";
    let actor: serde_json::Value = sqlx::query_scalar(recorded).fetch_one(&mut owner).await?;
    assert_eq!(actor, serde_json::json!({"type": "service_account", "id": "audit_exporter"}));
    works_on_jobs(&timeline).await?;
    let statements = [
        "update threadline_export_jobs set request = null",
        "update threadline_export_jobs set actor_ref = null",
        "update threadline_export_jobs set query_params = '{}'",
        "update threadline_export_jobs set file_path = '/etc/passwd'",
        "insert into threadline_export_jobs (status, query_params, file_path) values ('completed', '{}', '/etc/passwd')",
        "delete from threadline_export_jobs",
        "truncate threadline_export_jobs",
        "update threadline_export_schedules set request = '{}'",
        "update threadline_export_schedules set actor_ref = null",
        "select * from threadline_saved_views",
        "delete from audit_actions",
        "update audit_actions set name = 'another'",
        "delete from threadline_evidence_records",
        "update threadline_evidence_records set detail = '{}'",
        "select * from threadline_evidence_records",
        "insert into audit_transactions (txid) values (1)",
        "delete from audit_changes",
        "select * from threadline_hash_keys",
        "select * from audit_receipts",
        "create table more (id int)",
    ];
    refuses(url, "audit_exporter", &statements).await
}

/// Everything that the commands of jobs and schedules do.
async fn works_on_jobs(timeline: &Timeline) -> anyhow::Result<()> {
    use threadline::export::jobs::{self, JobRequest, Worker, schedules};
    let folder = WorkDir::create()?;
    std::fs::create_dir(folder.path().join("stored"))?;
    let place: threadline::storage::Location =
        format!("file://{}/stored", folder.path().display()).parse()?;
    let request = JobRequest::new(Filter::default(), Options::default(), place.clone());
    let everything = Scope::everything();
    let every = std::time::Duration::from_secs(3600);
    schedules::add(timeline, &everything, "hourly", &request, every).await?;
    let job = jobs::add(timeline, &everything, &request).await?.id;
    jobs::cancel(timeline, job).await?;
    jobs::retry(timeline, job).await?;
    let worker = Worker::new(timeline.clone(), folder.path().join("made")).allow(place);
    let mut ended = Vec::new();
    worker.run_until_idle(std::future::pending(), |one| ended.push(one.outcome.clone())).await?;
    assert!(
        matches!(ended[..], [jobs::Outcome::Completed { .. }, jobs::Outcome::Completed { .. }]),
        "{ended:?}"
    );
    assert_eq!(jobs::list(timeline, None, 10).await?.len(), 2);
    assert_eq!(schedules::list(timeline).await?.len(), 1);
    schedules::enable(timeline, "hourly", false).await?;
    schedules::remove(timeline, "hourly").await?;
    assert_eq!(worker.clean().await?, jobs::Cleaned::default());
    Ok(())
}

/// Whatever else is there, it verifies what it has sealed; and a reader verifies the same.
#[tokio::test]
async fn the_sealer_appends_receipts_and_can_change_none() -> anyhow::Result<()> {
    use threadline::receipts::{Span, Trust, bundle, seal, verify};
    let pipeline = Pipeline::new().await?;
    let mut owner = pipeline.timeline.connect().await?;
    owner
        .execute(
            "insert into audit_transactions (id, txid) values ('b0000000-0000-4000-8000-000000000001', 1);
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
             values ('b0000000-0000-4000-8000-000000000001', 'public', 't', '{}', 'insert');
             insert into audit_actions (name, actor_ref, status) values ('a.b', '{}', 'ok')",
        )
        .await?;
    let url = &pipeline.timeline.url;
    let timeline = async |role| {
        anyhow::Ok(Timeline::new(sqlx::PgPool::connect(&as_role(url, role)).await?, StorageSchema::default()))
    };
    let (sealer, reader) = (timeline("audit_sealer").await?, timeline("audit_reader").await?);
    for rows in [3, 0] {
        let receipt = seal(&sealer, None, |_| {}).await?.receipt;
        assert_eq!(receipt.transactions + receipt.changes + receipt.actions, rows);
    }
    for timeline in [&sealer, &reader] {
        assert!(verify(timeline, &Trust::nothing(), |_| {}).await?.holds());
        assert_eq!(bundle(timeline, Span::default(), &mut Vec::new(), |_| {}).await?.rows, 3);
    }
    assert_eq!(seal(&reader, None, |_| {}).await.map(drop).unwrap_err().term(), Some("rights"));
    let statements = [
        "update threadline_receipts set hash = ''",
        "delete from threadline_receipts",
        "truncate threadline_receipts",
        "update threadline_receipt_leaves set leaves = ''",
        "delete from threadline_receipt_leaves",
        "delete from audit_changes",
        "update audit_transactions set source = ''",
        "insert into audit_actions (name, actor_ref, status) values ('a', '{}', 'ok')",
        "update threadline_retention_runs set status = ''",
        "create table more (id int)",
    ];
    refuses(url, "audit_sealer", &statements).await?;
    let statements =
        ["insert into threadline_receipts (n) values (9)", "delete from threadline_receipt_leaves"];
    refuses(url, "audit_reader", &statements).await
}

#[tokio::test]
async fn the_surface_reads_records_and_keeps_saved_views_and_changes_nothing_else() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let pool = sqlx::PgPool::connect(&as_role(&pipeline.timeline.url, "audit_surface")).await?;
    let timeline = Timeline::new(pool, StorageSchema::default());
    let actor = ActorRef::new(ActorType::Admin, Some("a1"))?;
    let (id, filter) = (uuid::Uuid::new_v4(), "table:posts last:24h".parse()?);
    views::save(&timeline, &actor, id, "Posts", &filter).await?;
    views::rename(&timeline, &actor, id, "Posts of today").await?;
    let saved = views::list(&timeline, &actor).await?;
    assert_eq!((saved[0].name.as_str(), saved[0].filter.as_ref()), ("Posts of today", Some(&filter)));
    views::remove(&timeline, &actor, id).await?;
    // It reads what it has recorded, as audit_reader does.
    let reader = timeline.reader(Scope::everything());
    assert_eq!(reader.count(&"action:audit.*".parse()?).await?, Count::Exactly(3));
    let statements = [
        "delete from audit_actions",
        "update audit_actions set comment = 'another'",
        "insert into audit_actions (id, name, actor_ref, status) values (gen_random_uuid(), 'a', '{}', 'ok')",
        "insert into audit_actions (name, actor_ref, status, inserted_at) values ('a', '{}', 'ok', now())",
        "update threadline_saved_views set actor_ref = '{}'",
        "update threadline_saved_views set filters = '{}'",
        "insert into audit_transactions (txid) values (7)",
        "delete from audit_changes",
        "truncate threadline_saved_views",
        "update threadline_export_jobs set query_params = '{}'",
        "delete from threadline_export_jobs",
        "delete from threadline_evidence_records",
        "select * from threadline_hash_keys",
        "update threadline_retention_runs set status = 'completed'",
        "insert into threadline_receipts (n) values (9)",
        "create table more (id int)",
    ];
    refuses(&pipeline.timeline.url, "audit_surface", &statements).await?;
    refuses(&pipeline.timeline.url, "audit_reader", &["select * from threadline_saved_views"]).await
}
