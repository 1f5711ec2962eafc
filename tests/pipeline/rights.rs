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
use threadline::StorageSchema;
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// `insufficient_privilege`.
const REFUSED: &str = "42501";

/// What a role may not do, each in a statement of its own.
pub(crate) async fn refuses(url: &str, role: &str, statements: &[&str]) -> anyhow::Result<()> {
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
                           'audit_maintainer', 'audit_archivist', 'audit_exporter', 'audit_sealer', 'audit_eraser', 'audit_surface')
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

#[tokio::test]
async fn the_users_of_the_broker_may_do_what_their_work_needs_and_no_more() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let (rows, _) = samples(3);
    pipeline.commit(&rows).await?;
    pipeline.references(3).await?;
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
        ("publisher", vec![&delete, &take, &settle, &other]),
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
    let description = info.config.description.unwrap_or_default();
    assert!(description.ends_with(" (packed)"), "the publisher may say that it packs: {description}");
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
