//! Audited transactions, from Rust.

use anyhow::Context as _;
use sandbox::{pgbouncer::PgBouncer, work_dir::WorkDir};
use serde_json::{Map, Value, json};
use sqlx::{
    Connection as _, Executor as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use threadline::{
    Action, ActorRef, ActorType, AuditContext, Audited, AuditedError, Status, StorageSchema, Timeline,
};

use super::{capture, host};

const TABLE: &str =
    "create table posts (id int primary key, title text); create table plain (id int primary key)";

pub(super) struct Host {
    pub(super) database: sandbox::fixture::TestDatabase,
    pub(super) connection: PgConnection,
    pub(super) timeline: Timeline,
}

pub(super) async fn audited() -> anyhow::Result<Host> {
    let (database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("posts", json!({}))]).await?;
    let timeline = Timeline::new(PgPool::connect(&database.url).await?, StorageSchema::default());
    Ok(Host { database, connection, timeline })
}

pub(super) fn user() -> ActorRef {
    ActorRef::new(ActorType::User, Some("u-1")).unwrap()
}

fn meta(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

impl Host {
    /// Actor, meta and the linked action of each captured transaction, as the fixtures of the Elixir library list them.
    pub(super) async fn rows(&mut self) -> anyhow::Result<Vec<Value>> {
        Ok(sqlx::query_scalar(
            "select jsonb_build_array(t.actor_ref, t.meta, a.name, a.status, a.reason, a.verb, a.category, a.comment,
                                      a.correlation_id, a.request_id, a.job_id)
             from audit_transactions t left join audit_actions a on a.id = t.action_id order by t.occurred_at",
        )
        .fetch_all(&mut self.connection)
        .await?)
    }

    pub(super) async fn counts(&mut self) -> anyhow::Result<[i64; 3]> {
        let (posts, transactions, actions) = sqlx::query_as(
            "select (select count(*) from posts), (select count(*) from audit_transactions), (select count(*) from audit_actions)",
        )
        .fetch_one(&mut self.connection)
        .await?;
        Ok([posts, transactions, actions])
    }
}

pub(super) async fn insert(connection: &mut PgConnection, id: i32) -> Result<i32, sqlx::Error> {
    sqlx::query("insert into posts values ($1, 'a')").bind(id).execute(connection).await?;
    Ok(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audited_transaction_links_action_context_and_meta_to_what_it_changes() -> anyhow::Result<()> {
    let mut host = audited().await?;
    let context = AuditContext::of(user()).correlation_id("c1").request_id("r1").job_id("j1");
    let transaction = host.timeline.transaction(context).action(Action::new("post_created", user()));
    let transaction = transaction.meta(meta(&json!({"k": [1]})));
    // In a task of its own: its future may go to another thread.
    let Audited { value, audit_transaction_id, action_id } =
        tokio::spawn(transaction.run(async |connection| insert(connection, 1).await)).await??;
    assert_eq!(value, 1);
    let linked: (Option<uuid::Uuid>, Option<uuid::Uuid>) =
        sqlx::query_as("select id, action_id from audit_transactions")
            .fetch_one(&mut host.connection)
            .await?;
    assert_eq!(linked, (audit_transaction_id, action_id));
    let of_its_own = Action::new("post.created", user())
        .status(Status::Error)
        .reason("because")
        .verb("created")
        .category("post")
        .comment("note")
        .correlation_id("inner");
    host.timeline
        .transaction(AuditContext::of(user()).correlation_id("outer"))
        .action(of_its_own)
        .run(async |connection| insert(connection, 2).await)
        .await?;
    host.timeline
        .transaction(user())
        .meta(meta(&json!({"m": 1})))
        .run(async |connection| insert(connection, 3).await)
        .await?;
    host.timeline
        .transaction(AuditContext::without_actor())
        .run(async |connection| insert(connection, 4).await)
        .await?;
    let actor = json!({"id": "u-1", "type": "user"});
    let none = Value::Null;
    assert_eq!(
        host.rows().await?,
        [
            json!([actor, {"k": [1]}, "post_created", "ok", none, none, none, none, "c1", "r1", "j1"]),
            json!([
                actor,
                none,
                "post.created",
                "error",
                "because",
                "created",
                "post",
                "note",
                "inner",
                none,
                none
            ]),
            json!([actor, {"m": 1}, none, none, none, none, none, none, none, none, none]),
            json!([none, none, none, none, none, none, none, none, none, none, none]),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn an_error_of_the_work_rolls_everything_back_always() -> anyhow::Result<()> {
    let mut host = audited().await?;
    for action in [Some(Action::new("a", user())), None] {
        let mut transaction = host.timeline.transaction(user());
        if let Some(action) = action {
            transaction = transaction.action(action);
        }
        let failed = transaction
            .run(async |connection| {
                insert(connection, 1).await.unwrap();
                Err::<(), _>("not today")
            })
            .await;
        assert!(matches!(failed, Err(AuditedError::Work("not today"))), "{failed:?}");
    }
    assert_eq!(host.counts().await?, [0, 0, 0]);
    // The connection that it ran on is as it was.
    let setting: Option<String> =
        sqlx::query_scalar("select nullif(current_setting('threadline.actor_ref', true), '')")
            .fetch_one(host.timeline.pool())
            .await?;
    assert_eq!(setting, None);
    Ok(())
}

#[tokio::test]
async fn work_that_hides_an_error_of_the_database_commits_nothing() -> anyhow::Result<()> {
    let mut host = audited().await?;
    let failed = host
        .timeline
        .transaction(user())
        .run(async |connection| {
            insert(connection, 1).await?;
            let _ = insert(connection, 1).await;
            Ok::<_, sqlx::Error>(())
        })
        .await;
    assert!(matches!(failed, Err(AuditedError::Database(_))), "{failed:?}");
    assert_eq!(host.counts().await?, [0, 0, 0]);
    Ok(())
}

#[tokio::test]
async fn where_nothing_is_captured_an_action_stands_by_itself_unless_changes_are_required()
-> anyhow::Result<()> {
    let mut host = audited().await?;
    let plain = async |connection: &mut PgConnection| {
        connection.execute("insert into plain select count(*) from plain").await.map(|_| 1)
    };
    let nothing = host.timeline.transaction(user()).run(plain).await?;
    assert_eq!(nothing, Audited { value: 1, audit_transaction_id: None, action_id: None });
    for transaction in [
        host.timeline.transaction(user()).action(Action::new("a", user())).require_changes(),
        host.timeline.transaction(user()).require_changes(),
        host.timeline.transaction(user()).meta(Map::new()),
    ] {
        let failed = transaction.run(plain).await;
        assert!(matches!(failed, Err(AuditedError::NothingCaptured)), "{failed:?}");
    }
    let plain_rows: i64 =
        sqlx::query_scalar("select count(*) from plain").fetch_one(&mut host.connection).await?;
    assert_eq!(plain_rows, 1, "rolled back");
    let alone = host.timeline.transaction(user()).action(Action::new("nocap", user())).run(plain).await?;
    assert!(alone.audit_transaction_id.is_some() && alone.action_id.is_some(), "{alone:?}");
    assert_eq!(host.counts().await?, [0, 1, 1]);
    Ok(())
}

#[tokio::test]
async fn a_nested_audited_transaction_is_refused_and_the_next_one_is_not() -> anyhow::Result<()> {
    let mut host = audited().await?;
    let timeline = host.timeline.clone();
    let nested = host
        .timeline
        .transaction(user())
        .action(Action::new("outer", user()))
        .run(async |connection| {
            timeline.transaction(user()).attach::<sqlx::Error>(connection).await.map(drop)
        })
        .await;
    assert!(matches!(nested, Err(AuditedError::Work(AuditedError::Nested))), "{nested:?}");
    // On the same connection of the pool, perhaps.
    host.timeline.transaction(user()).run(async |connection| insert(connection, 1).await).await?;
    assert_eq!(host.counts().await?, [1, 1, 0]);
    Ok(())
}

#[tokio::test]
async fn a_transaction_of_the_hosts_own_is_audited_from_where_it_is_attached_and_ends_as_the_host_decides()
-> anyhow::Result<()> {
    let mut host = audited().await?;
    for commits in [true, false] {
        let mut transaction = host.connection.begin().await?;
        insert(&mut transaction, 1).await?;
        let attached = host
            .timeline
            .transaction(AuditContext::of(user()).source("web"))
            .action(Action::new("both", user()))
            .attach::<sqlx::Error>(&mut transaction)
            .await?;
        insert(&mut transaction, 2).await?;
        let audited = attached.finish::<sqlx::Error>(&mut transaction).await?;
        assert!(audited.action_id.is_some());
        if commits {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        sqlx::query("truncate posts").execute(&mut host.connection).await?;
    }
    let rows: Vec<Value> = sqlx::query_scalar(
        "select jsonb_build_array(t.actor_ref -> 'id', t.source, a.name,
                                  (select count(*) from audit_changes c where c.transaction_id = t.id))
         from audit_transactions t join audit_actions a on a.id = t.action_id",
    )
    .fetch_all(&mut host.connection)
    .await?;
    assert_eq!(rows, [json!(["u-1", "web", "both", 2])], "what came before it is its transaction's, too");
    Ok(())
}

#[tokio::test]
async fn a_context_that_is_too_large_is_refused_before_anything_is_done() -> anyhow::Result<()> {
    let mut host = audited().await?;
    let context = AuditContext::of(user()).with("note", "x".repeat(9_000));
    let failed = host.timeline.transaction(context).run(async |connection| insert(connection, 1).await).await;
    assert!(matches!(failed, Err(AuditedError::ContextTooLarge)), "{failed:?}");
    assert_eq!(host.counts().await?, [0, 0, 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_every_transaction_has_its_own_actor_whatever_others_leave_on_the_connections()
-> anyhow::Result<()> {
    let mut host = audited().await?;
    let work_dir = WorkDir::create()?;
    let pooler = PgBouncer::start(&work_dir, &host.database.url, "default_pool_size = 2\n")?;
    let url = pooler.lead(&host.database.url).context("before this server")?;
    // As such a pooler asks for it: no statement outlives its transaction, no setting comes with the connection.
    let options: PgConnectOptions = url.parse()?;
    let options = options.statement_cache_capacity(0).extra_float_digits(None);
    let pool = PgPoolOptions::new().max_connections(4).connect_lazy_with(options);
    let timeline = Timeline::new(pool, StorageSchema::default());
    let writers = (0..4).map(|writer| {
        let timeline = timeline.clone();
        tokio::spawn(async move {
            for n in 0..10 {
                let post = writer * 10 + n;
                let actor = ActorRef::new(ActorType::User, Some(format!("u{post}"))).unwrap();
                let write = sqlx::query("insert into posts values ($1, 'a')").bind(post).persistent(false);
                timeline.transaction(actor).run(async |connection| write.execute(connection).await).await?;
                timeline
                    .pool()
                    .execute("select set_config('threadline.actor_ref', '{\"type\": \"system\", \"id\": \"left\"}', false)")
                    .await?;
            }
            anyhow::Ok(())
        })
    });
    for writer in writers {
        writer.await??;
    }
    let wrong: i64 = sqlx::query_scalar(
        "select count(*) from audit_changes c join audit_transactions t on t.id = c.transaction_id
         where t.actor_ref ->> 'id' is distinct from 'u' || (c.table_pk ->> 'id')",
    )
    .fetch_one(&mut host.connection)
    .await?;
    assert_eq!((wrong, host.counts().await?), (0, [40, 40, 0]));
    Ok(())
}
