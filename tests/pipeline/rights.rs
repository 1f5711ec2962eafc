//! The rights of `deploy/`: that they are enough every other test shows, which runs under them; here, that they are least.

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions};
use common::outbox;
use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{
    audit,
    fixture::{TestDatabase, audit_events},
    postgres::Postgres,
    rights::{self, as_role},
    work_dir::WorkDir,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{
    StorageSchema, Timeline,
    export::{Destination, Options, Profile, Request, export},
    query::{
        Count, Filter, PageRequest, Scope,
        row::{At, RowPage},
    },
    retention::{self, Keep, Policy, PurgeOptions, Purgeable},
};
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// `insufficient_privilege`.
const REFUSED: &str = "42501";

/// What a role may not do, each in a statement of its own.
async fn refuses(url: &str, role: &str, statements: &[&str]) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&as_role(url, role)).await?;
    for statement in statements {
        let outcome = connection.execute(AssertSqlSafe((*statement).to_owned())).await;
        let error = outcome.err().with_context(|| format!("{role} may: {statement}"))?;
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some(REFUSED), "{role}: {statement}: {error}");
    }
    Ok(())
}

/// What nobody but the owner of the source may.
const OWNERS: [&str; 10] = [
    "insert into audit_events select * from audit_events",
    "update audit_events set action = 'another'",
    "delete from audit_events",
    "alter table audit_events disable trigger outbox_capture",
    "truncate outbox.entries",
    "update outbox.entries set audit_event_id = null",
    "update outbox.rounds set n = 0",
    "delete from outbox.acts",
    "select outbox.attach('audit_events')",
    "create table outbox.more (id int)",
];

#[tokio::test]
async fn the_roles_of_the_source_may_do_what_their_work_needs_and_no_more() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let url = &pipeline.source.url;
    for role in ["audit_publisher", "audit_consumer", "audit_operator", "audit_decider"] {
        refuses(url, role, &OWNERS).await?;
    }
    let publisher = [
        "select action from audit_events",
        "select actor_id from audit_events",
        "select metadata from audit_events",
        "select id from audit_events for update",
        "insert into outbox.entries (xid) values ('3')",
        "insert into outbox.entries (forwarder, occurred_at) values ('timeline', now())",
        "insert into outbox.rounds (at) values (now())",
        "insert into outbox.failures (forwarder, ref, state, next_attempt_at) values ('a', 'b', 'retrying', now())",
        "update outbox.failures set attempts = 0",
        "delete from outbox.failures",
        "select error from outbox.failures",
        "insert into outbox.acts (actor, kind) values ('somebody', 'nothing')",
        "update outbox.horizon set singleton = true",
        "select outbox.safe_before()",
    ];
    refuses(url, "audit_publisher", &publisher).await?;
    let consumer = [
        "select * from audit_events",
        "select ip_address from audit_events",
        "select user_agent from audit_events",
        "insert into outbox.entries (xid) values ('3')",
        "select outbox.safe_before()",
        "select excerpt from outbox.failures",
        "update outbox.failures set note = 'nothing'",
        "delete from outbox.reconciled",
        "update outbox.acts set count = 0",
        "select actor from outbox.acts",
        "insert into outbox.streams values (now(), 1)",
        "insert into outbox.settled select * from outbox.settled",
    ];
    refuses(url, "audit_consumer", &consumer).await?;
    let operator = [
        "select outbox.safe_before()",
        "select occurred_at from audit_events",
        "select actor_id from audit_events",
        "select audit_event_id from outbox.entries",
        "select excerpt from outbox.failures",
        "update outbox.failures set state = 'dead'",
        "insert into outbox.entries (audit_event_id) values (gen_random_uuid())",
        "delete from outbox.leases",
        "delete from outbox.rounds",
        "insert into outbox.acts (actor, kind) values ('somebody', 'nothing')",
    ];
    refuses(url, "audit_operator", &operator).await?;
    let decider = [
        "update outbox.failures set reason = 'another'",
        "delete from outbox.failures",
        "delete from outbox.entries",
        "delete from outbox.rounds",
        "delete from outbox.leases",
        "update outbox.acts set actor = 'somebody else'",
        "delete from outbox.backfills",
        "update outbox.reconciled set missing = 0",
    ];
    refuses(url, "audit_decider", &decider).await?;
    let mut owner = pipeline.source.connect().await?;
    let mighty: i64 = sqlx::query_scalar(
        "select count(*) from pg_roles
         where rolname in ('audit_publisher', 'audit_consumer', 'audit_operator', 'audit_decider', 'audit_projector', 'audit_reader',
                           'audit_maintainer', 'audit_exporter', 'audit_sealer')
           and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)",
    )
    .fetch_one(&mut owner)
    .await?;
    assert_eq!(mighty, 0);
    Ok(())
}

/// As the file says: as a superuser, or as the owner if it may create roles.
#[tokio::test]
async fn the_files_for_psql_stop_at_the_first_error_and_may_be_repeated() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let server = Postgres::start(&work_dir, false)?;
    let file = |name: &str| format!("{}/../deploy/postgres/{name}.sql", env!("CARGO_MANIFEST_DIR"));
    let source = TestDatabase::of_owner(&server.create_database("source", None).await?);
    source.hand_over().await?;
    let mut superuser = source.superuser().await?;
    let roles = "select count(*) from pg_roles where rolname like 'audit\\_%'";
    for name in ["source", "timeline"] {
        let path = file(name);
        let (status, said) = server.psql(&rights::as_superuser(&source.url), path.as_ref())?;
        // There is nothing to grant yet. Whoever continues behind an error is told that the transaction is aborted.
        assert_eq!((status, said.matches("ERROR:").count()), (Some(3), 1), "{name}: {said}");
        let statements = rights::statements(&std::fs::read_to_string(&path)?);
        let mut other = source.superuser().await?;
        other.execute(AssertSqlSafe(statements)).await.expect_err("another client stops too");
        other.close().await?;
        assert_eq!(sqlx::query_scalar::<_, i64>(roles).fetch_one(&mut superuser).await?, 0, "{name}");
    }

    let mut owner = source.session().await?;
    audit::install(owner.direct()?, "public").await?;
    outbox::migrate(&mut owner).await?;
    outbox::capture::attach(&mut owner, &audit_events()).await?;
    threadline::install(owner.direct()?, &StorageSchema::default()).await?;
    superuser.execute(AssertSqlSafe(format!("alter role {} createrole", rights::OWNER))).await?;
    if server_version(&mut superuser).await? >= 160_000 {
        let may_grant = format!("grant pg_read_all_stats to {} with admin option", rights::OWNER);
        superuser.execute(AssertSqlSafe(may_grant)).await?;
    }
    for url in [source.url.clone(), source.url.clone(), rights::as_superuser(&source.url)] {
        for name in ["source", "timeline"] {
            let (status, said) = server.psql(&url, file(name).as_ref())?;
            assert!(
                status == Some(0) && !said.contains("ERROR") && !said.contains("WARNING"),
                "{name}: {said}"
            );
        }
    }
    let blind = "select not pg_has_role('owner', 'pg_read_all_stats', 'usage')";
    assert!(!sqlx::query_scalar::<_, bool>(blind).fetch_one(&mut superuser).await?);
    Ok(())
}

async fn server_version(connection: &mut PgConnection) -> anyhow::Result<i32> {
    let version = "select current_setting('server_version_num')::int";
    Ok(sqlx::query_scalar(version).fetch_one(connection).await?)
}

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
        "create table more (id int)",
    ];
    refuses(&pipeline.timeline.url, "audit_reader", &statements).await
}

#[tokio::test]
async fn the_maintainer_purges_and_can_neither_read_nor_forge_what_it_deletes() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut owner = pipeline.timeline.connect().await?;
    owner
        .execute(
            "insert into audit_actions (id, name, actor_ref, status, inserted_at) values
                 ('a0000000-0000-4000-8000-000000000001', 'a.b', '{}', 'ok', now() - interval '20 days');
             insert into audit_transactions (id, txid, occurred_at, action_id) values
                 ('b0000000-0000-4000-8000-000000000001', 1, now() - interval '20 days', 'a0000000-0000-4000-8000-000000000001'),
                 ('b0000000-0000-4000-8000-000000000002', 2, now() - interval '20 days', null);
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
             values ('b0000000-0000-4000-8000-000000000001', 'public', 't', '{\"id\": \"1\"}', 'insert', '{\"id\": 1}', now() - interval '20 days')",
        )
        .await?;
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

#[tokio::test]
async fn the_exporter_reads_the_whole_timeline_and_adds_records_of_exports_alone() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let url = &pipeline.timeline.url;
    let pool = sqlx::PgPool::connect(&as_role(url, "audit_exporter")).await?;
    let reader = Timeline::new(pool, StorageSchema::default()).reader(Scope::everything());
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
    let statements = [
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

/// A client that hands on whatever the server has to say to it.
async fn connect(pipeline: &Pipeline, user: &str) -> anyhow::Result<(Client, UnboundedReceiver<String>)> {
    let (tell, told) = mpsc::unbounded_channel();
    let client = ConnectOptions::with_user_and_password(user.to_owned(), user.to_owned())
        .event_callback(move |event| {
            let _ = tell.send(event.to_string().to_lowercase());
            std::future::ready(())
        })
        .connect(&pipeline.nats_url)
        .await?;
    Ok((client, told))
}

async fn violation(told: &mut UnboundedReceiver<String>, what: &str) -> anyhow::Result<()> {
    let what = format!("permissions violation for {what}").to_lowercase();
    let waited = tokio::time::timeout(DEADLINE, async {
        while let Some(said) = told.recv().await {
            if said.contains(&what) {
                return true;
            }
        }
        false
    });
    anyhow::ensure!(waited.await.unwrap_or(false), "no {what}");
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
async fn the_users_of_the_broker_may_do_what_their_work_needs_and_no_more() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let (rows, _) = samples(3);
    pipeline.commit(&rows).await?;
    pipeline.messages(3).await?;
    let (stream, durable) = (&pipeline.name, format!("{}.forward-timeline", pipeline.name));
    let reference = format!("{stream}.events");
    let (delete, update) =
        (format!("$JS.API.STREAM.DELETE.{stream}"), format!("$JS.API.STREAM.UPDATE.{stream}"));
    let (purge, take) =
        (format!("$JS.API.STREAM.PURGE.{stream}"), format!("$JS.API.CONSUMER.MSG.NEXT.{durable}"));
    let remove = format!("$JS.API.STREAM.MSG.DELETE.{stream}");
    let settle = format!("$JS.ACK.{durable}.1.1.1.1.0");
    let other = "somebody.else".to_owned();
    for (user, refused) in [
        ("publisher", vec![&delete, &update, &take, &settle, &other]),
        ("consumer", vec![&reference, &delete, &update, &purge, &remove, &other]),
        ("operator", vec![&reference, &take, &settle, &other]),
    ] {
        let (client, mut told) = connect(&pipeline, user).await?;
        for subject in refused {
            client.publish(subject.clone(), "{}".into()).await?;
            violation(&mut told, &format!("publish to \"{subject}\"")).await.context(user)?;
        }
        for subject in [&*reference, "$JS.API.>", ">"] {
            let _ignored = client.subscribe(subject.to_owned()).await?;
            violation(&mut told, &format!("subscription to \"{subject}\"")).await.context(user)?;
        }
    }
    let info = pipeline.stream().await?.get_info().await?;
    assert_eq!((info.state.first_sequence, info.state.messages), (1, 3), "nobody has touched it");
    Ok(())
}

#[tokio::test]
async fn a_user_in_the_url_is_who_connects() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let direct = pipeline.nats_url.clone();
    for (user, known) in
        [("operator:wrong", false), ("nobody:operator", false), ("operator:%6fperator", true)]
    {
        pipeline.nats_url = direct.replace("nats://", &format!("nats://{user}@"));
        let (done, said) = pipeline.command("publisher", &["status"])?;
        assert_eq!(done, known, "{user}: {said}");
        assert!(known || said.contains("do its credentials match"), "{said}");
    }
    Ok(())
}

/// The tests put wildcards where the stream is named: that each subject names it is for this one to say.
#[test]
fn each_subject_of_the_shipped_file_is_of_our_stream_or_of_the_list_of_all() {
    let text = include_str!("../../deploy/nats/permissions.conf");
    let subjects: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix('"')).collect();
    assert!(subjects.len() > 20, "{subjects:?}");
    for subject in subjects {
        let listing = ["$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "sigra.audit.events"];
        assert!(listing.contains(&subject) || subject.contains(".SIGRA_AUDIT"), "{subject}");
    }
}
